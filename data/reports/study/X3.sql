-- X3: in-place upgrades
-- definition: endpoints that stated two versions or more in their life, the later one the higher, of endpoints seen
--   in more than one run. An address that changes hands may look like an upgrade.
-- note: another study counts 0.43 to 2.90 % of hosts a year
-- row:  ; endpoints upgraded in place ; - ; % ; endpoints seen more than once
-- row: year ; … a year of observation ; - ; % ; endpoint-years
-- row: down ; endpoints with a lower version later ; - ; % ; endpoints seen more than once
-- row: silent ; hosts whose latest version is older than 0.6.4 and says nothing of capabilities ; - ; % ; hosts
WITH stated AS (
       SELECT ip, port, domain, min(first_run) AS first_run, max(last_run) AS last_run,
              arg_min(server_version, first_run) AS stated_first, arg_max(server_version, last_run) AS stated_last
       FROM version_sightings SEMI JOIN studied USING (ip) WHERE server = $server AND server_version IS NOT NULL
       GROUP BY ip, port, domain HAVING sum(observations) > 1
     ),
     lived AS (
       SELECT one.version AS first_version, other.version AS last_version,
              date_diff('day', a.started_at, b.started_at) / 365.25 AS years
       FROM stated JOIN version_number one ON one.server_version = stated_first JOIN version_number other ON other.server_version = stated_last
            JOIN runs a ON a.run_id = stated.first_run JOIN runs b ON b.run_id = stated.last_run
     )
SELECT '' AS part, 100 * count(*) FILTER (last_version > first_version) / nullif(count(*), 0) AS value, count(*) AS denominator FROM lived
UNION ALL SELECT 'year', 100 * count(*) FILTER (last_version > first_version) / nullif(sum(years), 0), round(sum(years))::BIGINT FROM lived
UNION ALL SELECT 'down', 100 * count(*) FILTER (last_version < first_version) / nullif(count(*), 0), count(*) FROM lived
UNION ALL SELECT 'silent', 100 * count(*) FILTER (version < [0, 6, 4]) / count(*), count(*)
FROM host_life LEFT JOIN version_number ON server_version = last_version
