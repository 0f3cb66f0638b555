-- When each host declared each family, by month: one row per host, family and month; days_seen as in sightings.
SELECT ip, family, month, sum(observations)::BIGINT AS observations, bit_or(days_seen) AS days_seen
FROM family_sightings SEMI JOIN studied USING (ip)
WHERE server = $server
GROUP BY ip, family, month
