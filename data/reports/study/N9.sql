-- N9: persistent core by tier
-- definition: hosts of the tier with more than 100 observations.
-- note: tests whether hosts look residential and behave like a cloud
-- row:  ; tier with the largest share of persistent hosts ; - ; tier ; -
-- row: hyperscaler ; persistent core by tier: hyperscalers ; - ; % ; hosts of the tier
-- row: indie ; persistent core by tier: small clouds and VPS ; - ; % ; hosts of the tier
-- row: telecom ; persistent core by tier: telecom and residential ; - ; % ; hosts of the tier
-- row: academic ; persistent core by tier: academic ; - ; % ; hosts of the tier
WITH named AS (SELECT * FROM (VALUES ('Hyperscaler', 'hyperscaler'), ('Indie VPS', 'indie'), ('Telecom/Residential', 'telecom'), ('Academic', 'academic')) AS t(tier, part)),
     by_tier AS (SELECT part, 100 * count(*) FILTER (observations > 100) / count(*) AS value, count(*) AS denominator FROM host_life JOIN named USING (tier) GROUP BY part)
SELECT '' AS part, CASE arg_max(part, (value, part)) WHEN 'indie' THEN 'Indie VPS' WHEN 'telecom' THEN 'Telecom/Residential' WHEN 'hyperscaler' THEN 'Hyperscaler' WHEN 'academic' THEN 'Academic' END AS value, NULL::BIGINT AS denominator FROM by_tier WHERE value > 0
UNION ALL SELECT part, value, denominator FROM by_tier
