-- How long each endpoint listed each kind of model: one row per endpoint, server program and kind. A summary.
-- runs counts the runs that list it, running those that have it loaded; position and modified_at are of the last one.
-- merge: min(first_run), arg_max(position, last_run), arg_max(modified_at, last_run), max(last_run), sum(runs), sum(running)
SELECT k.ip, k.port, k.domain, h.server, k.kind,
       min(k.run_id) AS first_run,
       arg_min(k.position, (-epoch_us(h.observed_at), k.position)) AS position,
       arg_min(k.modified_at, (-epoch_us(h.observed_at), k.position)) AS modified_at,
       max(k.run_id) AS last_run,
       count(DISTINCT k.run_id)::BIGINT AS runs,
       count(*) FILTER (k.is_running)::BIGINT AS running
FROM kinded k JOIN hosts h USING (run_id, ip, port, domain)
GROUP BY k.ip, k.port, k.domain, h.server, k.kind
