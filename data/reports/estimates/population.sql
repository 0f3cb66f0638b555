-- How many hosts are there on a day, with those that did not answer?
-- method: hosts that answer on the scan day before and on the one after are there in between (Manly and Parr 1968), so how many of
--   them answer tells of how many the answers are; by tier, as Chapman (1951) estimates from marked animals, 95 % intervals of
--   the silent ones on the logarithm (Burnham et al. 1987) with Seber's (1970) variance. It assumes that hosts of a tier answer alike and independently of the day before: spells of
--   silence make it too small, and hosts never seen are in no estimate.
-- rows: days
WITH scanned_day AS (SELECT scanned, row_number() OVER (ORDER BY scanned) AS nth FROM scan_day),
     seen AS (
       SELECT ip, tier, nth
       FROM (SELECT ip, month, bit_or(days_seen) AS days FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server GROUP BY ip, month)
            JOIN (SELECT ip, coalesce(tier, 'unknown') AS tier FROM host_life) USING (ip)
            JOIN scanned_day ON month = date_trunc('month', scanned)::DATE AND days & (1 << (day(scanned) - 1))::INTEGER <> 0
     ),
     around AS (
       SELECT tier, nth, lag(nth) OVER mine AS previous, lead(nth) OVER mine AS following
       FROM seen WINDOW mine AS (PARTITION BY ip ORDER BY nth)
     ),
     answered AS (
       SELECT tier, nth, count(*) AS n, count(*) FILTER (previous = nth - 1 AND following = nth + 1) AS both_sides
       FROM around GROUP BY ALL
     ),
     skipped AS (SELECT tier, nth + 1 AS nth, count(*) AS missed FROM around WHERE following = nth + 2 GROUP BY ALL)
SELECT scanned, tier, n, both_sides, coalesce(missed, 0) AS missed
FROM answered LEFT JOIN skipped USING (tier, nth) JOIN scanned_day USING (nth) ORDER BY scanned, tier
