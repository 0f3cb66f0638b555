-- When each endpoint declared each family, by month: one row per endpoint, server program, family and month. A summary.
-- Families of models it serves itself; projectors (clip, mmproj) are none. days_seen as in sightings.
-- merge: bit_or(days_seen), sum(observations)
SELECT ip, port, domain, server, family, date_trunc('month', observed_at)::DATE AS month,
       bit_or((1 << (day(observed_at) - 1))::INTEGER) AS days_seen,
       count(*)::BIGINT AS observations
FROM (SELECT ip, port, domain, server, observed_at, unnest(families) AS family FROM hosts)
WHERE family NOT IN ('clip', 'mmproj')
GROUP BY ip, port, domain, server, family, month
