-- host_model, from the summaries: the same rows. Which listing is the latest is decided before anything is read of its model.
WITH latest AS (
       SELECT l.last_run, l.ip, l.port, l.domain, l.position, l.modified_at, l.kind
       FROM listings l JOIN kinds k USING (kind) SEMI JOIN hosts_asked_for USING (ip)
       WHERE $server = 'any' OR l.server = $server
       QUALIFY row_number() OVER (PARTITION BY l.ip, k.model.name, k.model.digest
                                  ORDER BY l.last_run DESC, l.port, l.domain, l.position) = 1
     ),
     described AS (
       SELECT l.last_run AS run_id, l.ip, l.port, l.domain, l.position, l.modified_at, unnest(k.model)
       FROM latest l JOIN kinds k USING (kind)
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
