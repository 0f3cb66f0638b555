-- How often are servers upgraded in place, and how many are outdated?
-- method: upgrades: a higher version stated after a lower one at one endpoint, of endpoints seen on more than one day, a year of
--   observation (first to last day seen); 95 % intervals of a Poisson rate by chi-square (Garwood 1936). outdated: the latest version
--   is lower than one that three endpoints had stated 90 days earlier or more; intervals by Wilson (1927). Nothing can be told
--   outdated in the first 90 days. An address that changes hands may look like an upgrade.
-- rows: groups
WITH stated AS (
       SELECT ip, port, domain, a.started_at::DATE AS since, b.started_at::DATE AS until, version
       FROM version_sightings v JOIN version_number USING (server_version) SEMI JOIN studied USING (ip)
            JOIN runs a ON a.run_id = v.first_run JOIN runs b ON b.run_id = v.last_run
       WHERE server = $server
     ),
     followed AS (SELECT *, lag(version) OVER (PARTITION BY ip, port, domain ORDER BY since, until) AS previous FROM stated),
     lived AS (
       SELECT ip, port, domain, date_diff('day', min(since), max(until)) / 365.25 AS years,
              count(*) FILTER (version > previous) AS upgrades, arg_max(version, (until, since)) AS version, max(until) AS last_seen
       FROM followed GROUP BY ip, port, domain
     ),
     known_since AS (
       SELECT version, nth_value(since, 3) OVER (PARTITION BY version ORDER BY since ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS since
       FROM stated
     ),
     old_newest AS (
       SELECT last_seen, max(version) AS newest
       FROM (SELECT DISTINCT last_seen FROM lived) JOIN (SELECT DISTINCT * FROM known_since) k ON k.since <= last_seen - 90
       GROUP BY last_seen
     ),
     told AS (
       SELECT coalesce(tier, 'unknown') AS tier, years, upgrades, newest IS NOT NULL AS judged, coalesce(lived.version < newest, false) AS outdated
       FROM lived JOIN host_life USING (ip) LEFT JOIN old_newest USING (last_seen)
     )
SELECT CASE WHEN grouping(tier) = 1 THEN 'all' ELSE tier END AS tier, count(*) FILTER (years > 0) AS endpoints,
       sum(years) AS years, sum(upgrades)::BIGINT AS upgrades, count(*) FILTER (years > 0 AND upgrades > 0) AS upgraded,
       count(*) FILTER (judged) AS judged, count(*) FILTER (outdated) AS outdated
FROM told GROUP BY GROUPING SETS ((), (tier)) ORDER BY grouping(tier) DESC, tier
