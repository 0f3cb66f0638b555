-- Hosts with more than 100 observations and a model that can call tools: one row per host. uptime is the share of all scan
-- days on which it was seen, uptime_span of those from its first to its last; running_share is how many of the observations
-- that tell had a model loaded, running how many models they had.
SELECT ip, n_days / (SELECT count(*) FROM scan_day) AS uptime,
       n_days / (SELECT count(*) FROM scan_day WHERE scanned BETWEEN first_day AND last_day) AS uptime_span,
       observations_running / nullif(running_known, 0) AS running_share,
       models_running / nullif(running_known, 0) AS running
FROM host_life
WHERE observations > 100 AND ip IN (SELECT ip FROM host_capability WHERE tools)
