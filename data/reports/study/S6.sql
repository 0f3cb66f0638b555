-- S6: persistent core
-- definition: hosts with more than 100 observations. A shorter census than 293 days cannot have as many: the
--   scale-free variant asks for more than 100/293 of the days scanned.
-- row:  ; persistent core ; 23000 ; hosts ; hosts
-- row: share ; persistent core, share ; 13 ; % ; hosts
-- row: host_days ; more than 100 host-days ; 13 ; % ; hosts
-- row: scale_free ; seen on more than 34.1 % of scan days ; 13 ; % ; hosts
SELECT '' AS part, count(*) FILTER (observations > 100) AS value, count(*) AS denominator FROM host_life
UNION ALL SELECT 'share', 100 * count(*) FILTER (observations > 100) / count(*), count(*) FROM host_life
UNION ALL SELECT 'host_days', 100 * count(*) FILTER (n_days > 100) / count(*), count(*) FROM host_life
UNION ALL SELECT 'scale_free', 100 * count(*) FILTER (n_days > (SELECT count(*) FROM scan_day) * 100 / 293) / count(*), count(*) FROM host_life
