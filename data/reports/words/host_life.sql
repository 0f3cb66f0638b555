-- The life of each host (distinct IP): one row per host. Observations count every endpoint and run, n_days every day once.
-- Country and networks are of the latest observation, last_models as in host_place.
WITH seen AS (SELECT * FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server),
     by_day AS (
       SELECT ip, sum(n_days)::BIGINT AS n_days
       FROM (SELECT ip, bit_count(bit_or(days_seen)) AS n_days FROM seen GROUP BY ip, month) GROUP BY ip
     ),
     life AS (
       SELECT ip, sum(observations)::BIGINT AS observations, sum(lists_read)::BIGINT AS lists_read,
              sum(models_listed)::BIGINT AS models_listed, sum(running_known)::BIGINT AS running_known,
              sum(observations_running)::BIGINT AS observations_running, sum(models_running)::BIGINT AS models_running,
              max(most_models) AS most_models, min(first_seen)::DATE AS first_day, max(last_seen)::DATE AS last_day
       FROM seen GROUP BY ip
     )
SELECT * FROM life JOIN by_day USING (ip) JOIN host_place USING (ip)
