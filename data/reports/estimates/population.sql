-- How many hosts are there on a day, with those that did not answer?
-- method: hosts that answer on the scan day before and on the one after are there in between (Manly and Parr 1968), so how many of
--   them answer tells of how many the answers are; by tier, as Chapman (1951) estimates from marked animals, 95 % intervals of
--   the silent ones on the logarithm (Burnham et al. 1987) with Seber's (1970) variance. Where none was silent,
--   high is by the rule of three (Hanley and Lippman-Hand 1983); with nobody on both sides, nothing is known. It assumes that
--   hosts of a tier answer alike and independently of the day before: spells of silence make it too small, and hosts never
--   seen are in no estimate.
-- rows: months
SELECT dense_rank() OVER (ORDER BY ip) - 1 AS host, coalesce(tier, 'unknown') AS tier, month, days_seen
FROM (SELECT ip, month, bit_or(days_seen) AS days_seen FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server GROUP BY ip, month)
     JOIN (SELECT ip, tier FROM host_place) USING (ip);

-- rows: days
SELECT scanned, date_trunc('month', scanned)::DATE AS month, day(scanned) - 1 AS bit FROM scan_day ORDER BY scanned
