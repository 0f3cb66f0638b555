-- G3: first ten countries
-- definition: countries by hosts, the first ten in order.
-- note: the order in which a reader of the chart lists them
-- row:  ; first ten countries ; CN US DE FR KR IN RU SG BR GB ; countries ; -
SELECT '' AS part, string_agg(country, ' ' ORDER BY hosts DESC, country) AS value, NULL::BIGINT AS denominator
FROM (SELECT country, count(*) AS hosts FROM host_life WHERE country IS NOT NULL GROUP BY country ORDER BY hosts DESC, country LIMIT 10)
