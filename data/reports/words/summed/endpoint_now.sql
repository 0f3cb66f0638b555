-- endpoint_now, from the summaries: the same rows.
SELECT unnest(latest)
FROM endpoint_latest SEMI JOIN hosts_asked_for USING (ip)
WHERE $server = 'any' OR server = $server
QUALIFY row_number() OVER (PARTITION BY ip, port, domain ORDER BY last_run DESC) = 1
