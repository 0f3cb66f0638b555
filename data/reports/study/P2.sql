-- P2: 1 to 3 and 4 to 7 billion parameters
-- definition: the band with most of a host's models, the larger one of equals, by the floor of the printed size
--   (3.2 is 1-3, 7.6 is 4-7, 8.0 and 14.8 are 8-14); hosts without a known size stay in the denominator, models of
--   a cloud do not count.
-- note: published only as close behind
-- row:  ; hosts whose main band is 1-3B ; - ; % ; hosts
-- row: 4_7 ; hosts whose main band is 4-7B ; - ; % ; hosts
-- row: any_1_3 ; hosts with any model of 1-3B ; - ; % ; hosts ; variant
-- row: any_4_7 ; hosts with any model of 4-7B ; - ; % ; hosts
-- row: rounded ; hosts whose main band is 1-3B, sizes rounded instead of cut ; - ; % ; hosts ; variant
WITH everyone AS (SELECT count(*) AS hosts FROM host_life),
     rounded AS (
       SELECT ip, CASE WHEN size < 1 THEN 0 WHEN size < 4 THEN 1 WHEN size < 8 THEN 4 WHEN size < 15 THEN 8 WHEN size < 35 THEN 15 WHEN size < 80 THEN 35 ELSE 80 END AS low,
              count(*) AS models
       FROM (SELECT ip, round(params_b) AS size FROM host_label WHERE params_b IS NOT NULL) GROUP BY ip, low
     )
SELECT '' AS part, 100 * count(*) FILTER (low = 1) / any_value(everyone.hosts) AS value, any_value(everyone.hosts) AS denominator FROM host_main_band, everyone
UNION ALL SELECT '4_7', 100 * count(*) FILTER (low = 4) / any_value(everyone.hosts), any_value(everyone.hosts) FROM host_main_band, everyone
UNION ALL SELECT 'any_1_3', 100 * count(*) FILTER (low = 1) / any_value(everyone.hosts), any_value(everyone.hosts) FROM host_band, everyone
UNION ALL SELECT 'any_4_7', 100 * count(*) FILTER (low = 4) / any_value(everyone.hosts), any_value(everyone.hosts) FROM host_band, everyone
UNION ALL SELECT 'rounded', 100 * count(*) FILTER (low = 1) / any_value(everyone.hosts), any_value(everyone.hosts)
FROM (SELECT arg_max(low, 100 * models + low) AS low FROM rounded GROUP BY ip), everyone
