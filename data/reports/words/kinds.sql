-- What was declared and concluded of models, each combination once: one row per kind. A summary.
-- merge: any_value(model)
SELECT kind, any_value(model) AS model FROM kinded GROUP BY kind
