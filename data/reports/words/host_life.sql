-- The life of each host (distinct IP): one row per host. Observations count every endpoint and run, n_days every day once.
-- Country and networks are of the latest observation; last_models is the latest list that was read, of any of its endpoints.
WITH by_month AS (
       SELECT ip, month, bit_count(bit_or(days_seen)) AS n_days, sum(observations)::BIGINT AS observations,
              sum(lists_read)::BIGINT AS lists_read, sum(models_listed)::BIGINT AS models_listed,
              sum(running_known)::BIGINT AS running_known, sum(observations_running)::BIGINT AS observations_running,
              sum(models_running)::BIGINT AS models_running, max(most_models) AS most_models,
              min(first_seen) AS first_seen, max(last_seen) AS last_seen
       FROM sightings SEMI JOIN studied USING (ip)
       WHERE server = $server
       GROUP BY ip, month
     ),
     life AS (
       SELECT ip, sum(n_days)::BIGINT AS n_days, sum(observations)::BIGINT AS observations, sum(lists_read)::BIGINT AS lists_read,
              sum(models_listed)::BIGINT AS models_listed, sum(running_known)::BIGINT AS running_known,
              sum(observations_running)::BIGINT AS observations_running, sum(models_running)::BIGINT AS models_running,
              max(most_models) AS most_models, min(first_seen)::DATE AS first_day, max(last_seen)::DATE AS last_day
       FROM by_month GROUP BY ip
     ),
     place AS (
       SELECT ip, count(*)::BIGINT AS endpoints, max(most_suspect) AS most_suspect,
              arg_max(struct_pack(country := latest.country, region := latest.region, asn := latest.asn,
                                  network_type := latest.network_type, tier := latest.tier),
                      (latest.observed_at, -port)) AS spot,
              arg_max(latest.n_models, (latest.observed_at, -port)) FILTER (latest.n_models IS NOT NULL) AS last_models,
              arg_max(latest.server_version, (latest.observed_at, -port)) AS last_version
       FROM endpoint_latest SEMI JOIN studied USING (ip)
       WHERE server = $server
       GROUP BY ip
     )
SELECT life.*, endpoints, most_suspect, last_models, last_version,
       spot.country AS country, spot.region AS region, spot.asn AS asn, spot.network_type AS network_type, spot.tier AS tier
FROM life JOIN place USING (ip)
