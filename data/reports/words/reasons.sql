-- The reasons for which each endpoint was ever doubted: one row per endpoint, server program and reason. A summary.
-- merge: max(suspect)
SELECT ip, port, domain, server, reason, max(suspect) AS suspect
FROM (SELECT ip, port, domain, server, suspect, unnest(suspect_reasons) AS reason FROM hosts)
GROUP BY ip, port, domain, server, reason
