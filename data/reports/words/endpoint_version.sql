-- The first and the last version of each endpoint that was seen more than once and stated any, and the years in between: one row
-- per endpoint.
WITH stated AS (
       SELECT ip, port, domain, min(first_run) AS first_run, max(last_run) AS last_run,
              arg_min(server_version, first_run) AS stated_first, arg_max(server_version, last_run) AS stated_last
       FROM version_sightings SEMI JOIN studied USING (ip)
       WHERE server = $server AND server_version IS NOT NULL
       GROUP BY ip, port, domain HAVING sum(observations) > 1
     )
SELECT ip, port, domain, one.version AS first_version, other.version AS last_version,
       date_diff('day', a.started_at, b.started_at) / 365.25 AS years
FROM stated JOIN runs a ON a.run_id = first_run JOIN runs b ON b.run_id = last_run
     JOIN version_number one ON one.server_version = stated_first JOIN version_number other ON other.server_version = stated_last
