-- S8: hosts seen once
-- definition: hosts with exactly one observation.
-- row:  ; seen exactly once ; 36 ; % ; hosts
-- row: host_days ; seen on exactly one day ; 36 ; % ; hosts ; variant
SELECT '' AS part, 100 * count(*) FILTER (observations = 1) / count(*) AS value, count(*) AS denominator FROM host_life
UNION ALL SELECT 'host_days', 100 * count(*) FILTER (n_days = 1) / count(*), count(*) FROM host_life
