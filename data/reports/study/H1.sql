-- H1: hosts of high capability and availability
-- definition: hosts with more than 100 observations and a model that can call tools, seen on at least 70 % of the
--   scan days, that had a model loaded in at least half of the observations that tell.
-- note: the study gives the size of the subset, not its cuts; these are ours
-- row:  ; hosts of high capability and availability ; 5000 ; hosts ; -
-- row: from_50 ; … with an uptime of at least 50 % ; - ; hosts ; - ; variant
-- row: from_60 ; … with an uptime of at least 60 % ; - ; hosts ; - ; variant
-- row: from_80 ; … with an uptime of at least 80 % ; - ; hosts ; - ; variant
-- row: from_90 ; … with an uptime of at least 90 % ; - ; hosts ; - ; variant
-- row: idle ; … whatever they have loaded ; - ; hosts ; - ; variant
SELECT '' AS part, count(*) AS value, NULL::BIGINT AS denominator FROM available_host
UNION ALL SELECT 'from_' || least_uptime, count(ip), NULL
FROM (VALUES (50), (60), (80), (90)) AS cut(least_uptime)
LEFT JOIN capable_host ON 100 * uptime >= least_uptime AND running_share >= 0.5 GROUP BY least_uptime
UNION ALL SELECT 'idle', count(*), NULL FROM capable_host WHERE uptime >= 0.7
