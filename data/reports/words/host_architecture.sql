-- One row per host and declared family, over the whole of its life: observations count endpoints and runs, n_days days.
SELECT ip, family, sum(observations)::BIGINT AS observations, sum(bit_count(days_seen))::BIGINT AS n_days
FROM host_family_month
GROUP BY ip, family
