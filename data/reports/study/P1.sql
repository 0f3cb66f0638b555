-- P1: 8 to 14 billion parameters
-- definition: the band with most of a host's models, the larger one of equals, by the floor of the printed size
--   (3.2 is 1-3, 7.6 is 4-7, 8.0 and 14.8 are 8-14); hosts without a known size stay in the denominator, models of
--   a cloud do not count.
-- note: one band a host: counted in every band they touch, the three would be far larger
-- row:  ; hosts whose main band is 8-14B ; 26 ; % ; hosts
-- row: any ; hosts with any model of 8-14B ; - ; % ; hosts ; variant
-- row: models ; models of 8-14B ; - ; % ; models of known size ; variant
-- row: first ; band that is the main one of most hosts ; 8-14B ; band ; -
WITH everyone AS (SELECT count(*) AS hosts FROM host_life)
SELECT '' AS part, (100 * count(*) FILTER (low = 8) / any_value(everyone.hosts))::VARCHAR AS value, any_value(everyone.hosts) AS denominator FROM host_main_band, everyone
UNION ALL SELECT 'any', (100 * count(*) FILTER (low = 8) / any_value(everyone.hosts))::VARCHAR, any_value(everyone.hosts) FROM host_band, everyone
UNION ALL SELECT 'models', (100 * sum(models) FILTER (low = 8) / sum(models))::VARCHAR, sum(models) FROM host_band
UNION ALL SELECT 'first', CASE arg_max(low, (hosts, low)) WHEN 0 THEN '<1B' WHEN 1 THEN '1-3B' WHEN 4 THEN '4-7B' WHEN 8 THEN '8-14B' ELSE '15B+' END, NULL
FROM (SELECT low, count(*) AS hosts FROM host_main_band GROUP BY low)
