-- N7: mean models of a host
-- definition: mean over the hosts of the tier of the mean length of their lists of models.
-- note: published without figures
-- row:  ; tier with the largest inventories ; Telecom/Residential ; tier ; -
-- row: hyperscaler ; mean models of a host: hyperscalers ; - ; models ; hosts of the tier
-- row: indie ; mean models of a host: small clouds and VPS ; - ; models ; hosts of the tier
-- row: telecom ; mean models of a host: telecom and residential ; - ; models ; hosts of the tier
-- row: academic ; mean models of a host: academic ; - ; models ; hosts of the tier
WITH named AS (SELECT * FROM (VALUES ('Hyperscaler', 'hyperscaler'), ('Indie VPS', 'indie'), ('Telecom/Residential', 'telecom'), ('Academic', 'academic')) AS t(tier, part)),
     by_tier AS (SELECT part, avg(models_listed / nullif(lists_read, 0)) AS value, count(*) AS denominator FROM host_life JOIN named USING (tier) GROUP BY part)
SELECT '' AS part, CASE arg_max(part, (value, part)) WHEN 'indie' THEN 'Indie VPS' WHEN 'telecom' THEN 'Telecom/Residential' WHEN 'hyperscaler' THEN 'Hyperscaler' WHEN 'academic' THEN 'Academic' END AS value, NULL::BIGINT AS denominator FROM by_tier WHERE value > 0
UNION ALL SELECT part, value, denominator FROM by_tier
