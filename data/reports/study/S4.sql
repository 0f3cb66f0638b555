-- S4: countries
-- definition: distinct countries of hosts by geolocation, each host at its latest observation; unknown ones are
--   left out. Hong Kong, Taiwan and Macao count by themselves.
-- row:  ; countries ; 130 ; countries ; -
-- row: unknown ; hosts of unknown country ; - ; % ; hosts
SELECT '' AS part, count(DISTINCT country) AS value, NULL::BIGINT AS denominator FROM host_life
UNION ALL SELECT 'unknown', 100 * (count(*) - count(country)) / count(*), count(*) FROM host_life
