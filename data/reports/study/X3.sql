-- X3: in-place upgrades
-- definition: endpoints that stated two versions or more in their life, the later one the higher, of endpoints seen
--   in more than one run. An address that changes hands may look like an upgrade.
-- definition of year: such endpoints, for 100 years that an endpoint was observed (from its first to its last day seen).
-- definition of down: endpoints whose latest version is lower than their first, of endpoints seen in more than one run.
-- definition of silent: hosts, not endpoints, whose latest stated version is lower than 0.6.4, the first that says what
--   a model can do; hosts that state no version stay in the denominator.
-- note: another study counts 0.43 to 2.90 % of hosts a year
-- row:  ; endpoints upgraded in place ; - ; % ; endpoints seen more than once
-- row: year ; … a year of observation ; - ; upgrades per 100 endpoint-years ; endpoint-years
-- row: down ; endpoints with a lower version later ; - ; % ; endpoints seen more than once
-- row: silent ; hosts whose latest version is older than 0.6.4 and says nothing of capabilities ; - ; % ; hosts
SELECT '' AS part, 100 * count(*) FILTER (last_version > first_version) / nullif(count(*), 0) AS value, count(*) AS denominator FROM endpoint_version
UNION ALL SELECT 'year', 100 * count(*) FILTER (last_version > first_version) / nullif(sum(years), 0), round(sum(years))::BIGINT FROM endpoint_version
UNION ALL SELECT 'down', 100 * count(*) FILTER (last_version < first_version) / nullif(count(*), 0), count(*) FROM endpoint_version
UNION ALL SELECT 'silent', 100 * count(*) FILTER (version < [0, 6, 4]) / count(*), count(*)
FROM host_life LEFT JOIN version_number ON server_version = last_version
