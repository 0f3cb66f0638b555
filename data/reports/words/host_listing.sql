-- Which kinds of models each host ever listed, and when: one row per endpoint and kind.
SELECT ip, port, domain, kind, first_run, last_run, runs, running
FROM listings SEMI JOIN studied USING (ip)
WHERE server = $server
