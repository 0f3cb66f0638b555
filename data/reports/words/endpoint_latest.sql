-- The latest observation of each endpoint and server program, and the strongest doubt in any. A summary.
-- latest is the row of hosts as a struct.
-- merge: max(most_suspect), min(first_run), arg_max(latest, last_run), max(last_run)
SELECT ip, port, domain, server, max(suspect) AS most_suspect, min(run_id) AS first_run,
       arg_max(h, run_id) AS latest, max(run_id) AS last_run
FROM hosts h
GROUP BY ip, port, domain, server
