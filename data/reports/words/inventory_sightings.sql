-- When each endpoint showed each inventory, by month: one row per endpoint, server program, inventory, place and month.
-- days_seen as in sightings. A summary.
-- merge: bit_or(days_seen), max(suspect)
SELECT ip, port, domain, server, inventory, asn, country, date_trunc('month', observed_at)::DATE AS month,
       bit_or((1 << (day(observed_at) - 1))::INTEGER) AS days_seen, max(suspect) AS suspect
FROM inventoried
GROUP BY ip, port, domain, server, inventory, asn, country, month
