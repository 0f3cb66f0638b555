-- One row per host and declared family, over the whole of its life: observations count endpoints and runs, n_days days.
SELECT ip, family, sum(observations)::BIGINT AS observations, sum(bit_count(days))::BIGINT AS n_days
FROM (SELECT ip, family, month, sum(observations) AS observations, bit_or(days_seen) AS days
      FROM family_sightings SEMI JOIN studied USING (ip) WHERE server = $server GROUP BY ip, family, month)
GROUP BY ip, family
