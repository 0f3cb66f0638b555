-- Every model a host ever listed: one row per endpoint, kind and host, with everything declared and concluded of it.
SELECT l.ip, l.port, l.domain, l.kind, l.first_run, l.last_run, l.runs, l.running, l.modified_at, unnest(k.model),
       k.model.is_remote IS TRUE AS remote,
       lower(trim(k.model.family_raw)) AS declared_family,
       coalesce(k.model.role IN ('embedding', 'rerank'), false)
         OR coalesce(regexp_matches(lower(trim(k.model.family_raw)), '(^|-)bert(-|$)|bert$|embed(ding)?$|^t5encoder$'), false) AS embeds
FROM listings l JOIN kinds k USING (kind) SEMI JOIN studied USING (ip)
WHERE l.server = $server
