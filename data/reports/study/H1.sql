-- H1: hosts of high capability and availability
-- definition: hosts with more than 100 observations and a model that can call tools, seen on at least 70 % of the
--   scan days, that had a model loaded in at least half of the observations that tell.
-- note: the study gives the size of the subset, not its cuts; these are ours
-- row:  ; hosts of high capability and availability ; 5000 ; hosts ; -
-- row: from_50 ; … with an uptime of at least 50 % ; - ; hosts ; -
-- row: from_60 ; … with an uptime of at least 60 % ; - ; hosts ; -
-- row: from_80 ; … with an uptime of at least 80 % ; - ; hosts ; -
-- row: from_90 ; … with an uptime of at least 90 % ; - ; hosts ; -
-- row: idle ; … whatever they have loaded ; - ; hosts ; -
WITH up AS (
       SELECT ip, n_days / (SELECT count(*) FROM scan_day) AS uptime,
              n_days / (SELECT count(*) FROM scan_day WHERE scanned BETWEEN first_day AND last_day) AS uptime_span,
              observations_running / nullif(running_known, 0) AS running_share, models_running / nullif(running_known, 0) AS running
       FROM host_life
       WHERE observations > 100 AND ip IN (SELECT ip FROM host_capability WHERE tools)
     ),
     chosen AS (SELECT * FROM up WHERE uptime >= 0.7 AND running_share >= 0.5)

SELECT '' AS part, count(*) AS value, NULL::BIGINT AS denominator FROM chosen
UNION ALL SELECT 'from_' || least_uptime, count(ip), NULL
FROM (VALUES (50), (60), (80), (90)) AS cut(least_uptime)
LEFT JOIN up ON 100 * uptime >= least_uptime AND running_share >= 0.5 GROUP BY least_uptime
UNION ALL SELECT 'idle', count(*), NULL FROM up WHERE uptime >= 0.7
