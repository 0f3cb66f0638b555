-- N6: mean days seen
-- definition: mean number of days on which a host of the tier was seen.
-- note: published without figures
-- row:  ; tier seen longest ; Indie VPS ; tier ; -
-- row: hyperscaler ; mean days seen: hyperscalers ; - ; days ; hosts of the tier
-- row: indie ; mean days seen: small clouds and VPS ; - ; days ; hosts of the tier
-- row: telecom ; mean days seen: telecom and residential ; - ; days ; hosts of the tier
-- row: academic ; mean days seen: academic ; - ; days ; hosts of the tier
WITH named AS (SELECT * FROM (VALUES ('Hyperscaler', 'hyperscaler'), ('Indie VPS', 'indie'), ('Telecom/Residential', 'telecom'), ('Academic', 'academic')) AS t(tier, part)),
     by_tier AS (SELECT part, sum(n_days) / count(*) AS value, count(*) AS denominator FROM host_life JOIN named USING (tier) GROUP BY part)
SELECT '' AS part, CASE arg_max(part, (value, part)) WHEN 'indie' THEN 'Indie VPS' WHEN 'telecom' THEN 'Telecom/Residential' WHEN 'hyperscaler' THEN 'Hyperscaler' WHEN 'academic' THEN 'Academic' END AS value, NULL::BIGINT AS denominator FROM by_tier WHERE value > 0
UNION ALL SELECT part, value, denominator FROM by_tier
