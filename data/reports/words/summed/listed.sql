-- listed, from the summaries: one row for each endpoint and kind of model, as in the last run that lists it.
-- What changes between runs (is_running, expires_at, size_vram) and what no report reads is not in it.
WITH described AS (
       SELECT l.last_run AS run_id, l.ip, l.port, l.domain, l.position, l.modified_at, unnest(k.model)
       FROM listings l JOIN kinds k USING (kind) SEMI JOIN hosts_asked_for USING (ip)
       WHERE $server = 'any' OR l.server = $server
     )
SELECT * REPLACE (
         CASE WHEN claimed_brand IS NULL THEN brand_family END AS brand_family,
         CASE WHEN claimed_brand IS NULL THEN developer_country END AS developer_country
       ),
       lower(trim(family_raw)) AS declared_family,
       is_remote IS TRUE AS remote,
       coalesce(role IN ('embedding', 'rerank'), false)
         OR coalesce(regexp_matches(lower(trim(family_raw)), '(^|-)bert(-|$)|bert$|embed(ding)?$|^t5encoder$'), false) AS embeds
FROM described
