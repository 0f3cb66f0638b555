-- Every model an endpoint listed: one row per run, endpoint and position.
SELECT m.*,
       lower(trim(m.family_raw)) AS declared_family,
       m.is_remote IS TRUE AS remote,
       coalesce(m.role IN ('embedding', 'rerank'), false)
         OR coalesce(regexp_matches(lower(trim(m.family_raw)), '(^|-)bert(-|$)|bert$|embed(ding)?$|^t5encoder$'), false) AS embeds
FROM models m SEMI JOIN endpoint USING (run_id, ip, port, domain)
