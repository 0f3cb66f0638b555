-- H2: their uptime
-- definition: mean share of the scan days on which they were seen: over the whole window; and over the days from
--   their first to their last. Hosts with more than 100 observations and a model that can call tools, seen on at
--   least 70 % of the scan days, that had a model loaded in at least half of the observations that tell.
-- row:  ; mean uptime, of the whole window ; 87 ; % ; hosts
-- row: span ; mean uptime, from first to last day ; - ; % ; hosts
WITH up AS (
       SELECT ip, n_days / (SELECT count(*) FROM scan_day) AS uptime,
              n_days / (SELECT count(*) FROM scan_day WHERE scanned BETWEEN first_day AND last_day) AS uptime_span,
              observations_running / nullif(running_known, 0) AS running_share, models_running / nullif(running_known, 0) AS running
       FROM host_life
       WHERE observations > 100 AND ip IN (SELECT ip FROM host_capability WHERE tools)
     ),
     chosen AS (SELECT * FROM up WHERE uptime >= 0.7 AND running_share >= 0.5)

SELECT '' AS part, 100 * avg(uptime) AS value, count(*) AS denominator FROM chosen
UNION ALL SELECT 'span', 100 * avg(uptime_span), count(*) FROM chosen
