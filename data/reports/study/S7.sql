-- S7: observations of the core
-- definition: observations of hosts with more than 100 of them, of all observations.
-- weighting: observations
-- row:  ; observations of the persistent core ; 76 ; % ; observations
-- row: scale_free ; of hosts seen on more than 34.1 % of scan days ; 76 ; % ; observations ; variant
SELECT '' AS part, 100 * coalesce(sum(observations) FILTER (observations > 100), 0) / sum(observations) AS value, sum(observations) AS denominator FROM host_life
UNION ALL
SELECT 'scale_free', 100 * coalesce(sum(observations) FILTER (n_days > (SELECT count(*) FROM scan_day) * 100 / 293), 0) / sum(observations), sum(observations) FROM host_life
