-- Every model an endpoint listed: one row per run, endpoint and position.
-- A hosted-only brand's name on a self-hosted port is a claim, so it is no brand here.
SELECT m.* REPLACE (
         CASE WHEN m.claimed_brand IS NULL THEN m.brand_family END AS brand_family,
         CASE WHEN m.claimed_brand IS NULL THEN m.developer_country END AS developer_country
       ),
       lower(trim(m.family_raw)) AS declared_family,
       m.is_remote IS TRUE AS remote,
       coalesce(m.role IN ('embedding', 'rerank'), false)
         OR coalesce(regexp_matches(lower(trim(m.family_raw)), '(^|-)bert(-|$)|bert$|embed(ding)?$|^t5encoder$'), false) AS embeds
FROM models m SEMI JOIN endpoint USING (run_id, ip, port, domain)
