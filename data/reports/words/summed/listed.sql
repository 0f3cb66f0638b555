-- listed, from the summaries: one row for each endpoint and kind of model, as in the last run that lists it.
-- What changes between runs (is_running, expires_at, size_vram) and what no report reads is not in it.
SELECT l.last_run AS run_id, l.ip, l.port, l.domain, l.position, l.modified_at, unnest(k.model),
       lower(trim(k.model.family_raw)) AS declared_family,
       k.model.is_remote IS TRUE AS remote,
       coalesce(k.model.role IN ('embedding', 'rerank'), false)
         OR coalesce(regexp_matches(lower(trim(k.model.family_raw)), '(^|-)bert(-|$)|bert$|embed(ding)?$|^t5encoder$'), false) AS embeds
FROM listings l JOIN kinds k USING (kind)
WHERE ($server = 'any' OR l.server = $server)
  AND CASE $suspects
        WHEN 'exclude' THEN l.ip NOT IN (SELECT s.ip FROM endpoint_latest s WHERE s.most_suspect >= 2)
        WHEN 'only' THEN l.ip IN (SELECT s.ip FROM endpoint_latest s WHERE s.most_suspect >= 2)
        ELSE true
      END
