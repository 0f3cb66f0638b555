-- How long each endpoint stated each version: one row per endpoint, server program and version. A summary.
-- merge: min(first_run), max(last_run), sum(observations)
SELECT ip, port, domain, server, server_version, min(run_id) AS first_run, max(run_id) AS last_run,
       count(*)::BIGINT AS observations
FROM hosts
GROUP BY ip, port, domain, server, server_version
