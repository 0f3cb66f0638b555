-- The life of each host (distinct IP): one row per host. Observations count every endpoint and run, n_days every day once.
-- Country and networks are of the latest observation; last_models is the latest list that was read, of any of its endpoints.
-- late orders observations by time, of one time by port, as one number, for pairs compare slowly: the lowest port is the latest.
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
              arg_max(spot, late) AS spot, arg_max(n_models, late) FILTER (n_models IS NOT NULL) AS last_models,
              arg_max(server_version, late) AS last_version
       FROM (SELECT ip, most_suspect, latest.n_models AS n_models, latest.server_version AS server_version,
                    struct_pack(country := latest.country, region := latest.region, asn := latest.asn,
                                network_type := latest.network_type, tier := latest.tier) AS spot,
                    epoch_us(latest.observed_at)::HUGEINT * 65536 - port AS late
             FROM endpoint_latest SEMI JOIN studied USING (ip)
             WHERE server = $server)
       GROUP BY ip
     )
SELECT life.*, endpoints, most_suspect, last_models, last_version,
       spot.country AS country, spot.region AS region, spot.asn AS asn, spot.network_type AS network_type, spot.tier AS tier
FROM life JOIN place USING (ip)
