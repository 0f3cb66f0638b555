-- listed, from the summaries: one row for each endpoint and kind of model, as in the last run that lists it.
-- What changes between runs (is_running, expires_at, size_vram) and what no report reads is not in it.
SELECT last_run AS run_id, ip, port, domain, position, modified_at, described.* EXCLUDE (kind)
FROM listings JOIN described USING (kind) SEMI JOIN hosts_asked_for USING (ip)
WHERE $server = 'any' OR server = $server
