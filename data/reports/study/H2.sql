-- H2: their uptime
-- definition: mean share of the scan days on which they were seen: over the whole window; and over the days from
--   their first to their last. Hosts with more than 100 observations and a model that can call tools, seen on at
--   least 70 % of the scan days, that had a model loaded in at least half of the observations that tell.
-- row:  ; mean uptime, of the whole window ; 87 ; % ; hosts
-- row: span ; mean uptime, from first to last day ; - ; % ; hosts ; variant
SELECT '' AS part, 100 * avg(uptime) AS value, count(*) AS denominator FROM available_host
UNION ALL SELECT 'span', 100 * avg(uptime_span), count(*) FROM available_host
