-- Which versions of the servers run?
-- definition: the version an endpoint stated at its latest observation, as it stated it. Unknown is a server that does
--   not say.
-- unit: host (distinct IP)
-- denominator: share_of_server: the hosts of that server; share_of_known: its hosts with a version; over {hosts} hosts
--   in all, {hosts_with_version} of them with a version
-- weighting: a host counts once for each server and version it runs
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT count(DISTINCT ip) AS hosts, count(DISTINCT ip) FILTER (server_version IS NOT NULL) AS hosts_with_version
FROM endpoint_now;

WITH program AS (
       SELECT server, count(DISTINCT ip) AS hosts, count(DISTINCT ip) FILTER (server_version IS NOT NULL) AS known
       FROM endpoint_now GROUP BY server
     ),
     counted AS (SELECT server, server_version, count(DISTINCT ip) AS hosts FROM endpoint_now GROUP BY ALL)
SELECT server,
       server_version AS version,
       counted.hosts,
       counted.hosts / program.hosts AS share_of_server,
       CASE WHEN server_version IS NOT NULL THEN counted.hosts / program.known END AS share_of_known
FROM counted JOIN program USING (server)
ORDER BY program.hosts DESC, server, counted.hosts DESC, version NULLS LAST
