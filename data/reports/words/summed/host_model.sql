-- host_model, from the summaries: the same rows. Which listing is the latest is decided before anything else is read of its model.
WITH latest AS (
       SELECT ip, port, domain, kind, last_run, position, modified_at
       FROM listings JOIN (SELECT kind, file FROM described) AS filed USING (kind) SEMI JOIN hosts_asked_for USING (ip)
       WHERE $server = 'any' OR server = $server
       QUALIFY row_number() OVER (PARTITION BY ip, file ORDER BY last_run DESC, port, domain, position) = 1
     )
SELECT last_run AS run_id, ip, port, domain, position, modified_at, described.* EXCLUDE (kind)
FROM latest JOIN described USING (kind)
