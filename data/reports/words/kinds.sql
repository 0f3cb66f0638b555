-- What was declared and concluded of models, each combination once, and the first run that lists it: one row per kind. A summary.
-- Two combinations of one kind would be two rows: then its hash names nothing, and the summaries are not kept.
-- merge: min(first_run)
SELECT kind, model, min(run_id) AS first_run FROM kinded GROUP BY kind, model
