-- Each kind of model, with everything declared and concluded of it: one row per kind. file is the least of the kinds that
-- have its name and digest.
-- A hosted-only brand's name on a self-hosted port is a claim, so it is no brand here.
WITH told AS (SELECT kind, unnest(model) FROM kinds)
SELECT * REPLACE (
         CASE WHEN claimed_brand IS NULL THEN brand_family END AS brand_family,
         CASE WHEN claimed_brand IS NULL THEN developer_country END AS developer_country
       ),
       min(kind) OVER (PARTITION BY name, digest) AS file,
       lower(trim(family_raw)) AS declared_family,
       is_remote IS TRUE AS remote,
       coalesce(role IN ('embedding', 'rerank'), false)
         OR coalesce(regexp_matches(lower(trim(family_raw)), '(^|-)bert(-|$)|bert$|embed(ding)?$|^t5encoder$'), false) AS embeds
FROM told
