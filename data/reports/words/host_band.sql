-- How many of its own models each host has in each band of sizes, by the floor of the printed size in billions (3.2 is 1-3,
-- 7.6 is 4-7, 8.0 and 14.8 are 8-14): one row per host and band; low is where the band begins.
SELECT ip, CASE WHEN size < 1 THEN 0 WHEN size < 4 THEN 1 WHEN size < 8 THEN 4 WHEN size < 15 THEN 8 WHEN size < 35 THEN 15 WHEN size < 80 THEN 35 ELSE 80 END AS low,
       count(*) AS models
FROM (SELECT ip, floor(round(params_b, 1)) AS size FROM host_label WHERE params_b IS NOT NULL)
GROUP BY ip, low
