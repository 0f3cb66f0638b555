-- host, from the summaries: the same rows.
WITH listed_most AS (
       SELECT ip, max(most_models) AS n_models FROM sightings WHERE $server = 'any' OR server = $server GROUP BY ip
     )
SELECT ip,
       arg_max({'country': latest.country, 'network_type': latest.network_type, 'tier': latest.tier},
               (latest.observed_at, last_run, port, domain)) AS place,
       any_value(listed_most.n_models) AS n_models
FROM endpoint_latest SEMI JOIN hosts_asked_for USING (ip) LEFT JOIN listed_most USING (ip)
WHERE $server = 'any' OR server = $server
GROUP BY ip
