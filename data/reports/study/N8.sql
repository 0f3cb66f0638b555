-- N8: running share
-- definition: observations in which at least one model was loaded, of those that tell. A model stays loaded for
--   five minutes after its last use, unless told otherwise: recent use, not service.
-- weighting: observations
-- note: published without figures: Indie high, Telecom low
-- row:  ; tier with the largest running share ; Indie VPS ; tier ; -
-- row: hyperscaler ; running share: hyperscalers ; - ; % ; observations that tell
-- row: indie ; running share: small clouds and VPS ; - ; % ; observations that tell
-- row: telecom ; running share: telecom and residential ; - ; % ; observations that tell
-- row: academic ; running share: academic ; - ; % ; observations that tell
WITH named AS (SELECT * FROM (VALUES ('Hyperscaler', 'hyperscaler'), ('Indie VPS', 'indie'), ('Telecom/Residential', 'telecom'), ('Academic', 'academic')) AS t(tier, part)),
     by_tier AS (SELECT part, 100 * sum(observations_running) / nullif(sum(running_known), 0) AS value, sum(running_known) AS denominator FROM host_life JOIN named USING (tier) GROUP BY part)
SELECT '' AS part, CASE arg_max(part, (value, part)) WHEN 'indie' THEN 'Indie VPS' WHEN 'telecom' THEN 'Telecom/Residential' WHEN 'hyperscaler' THEN 'Hyperscaler' WHEN 'academic' THEN 'Academic' END AS value, NULL::BIGINT AS denominator FROM by_tier WHERE value > 0
UNION ALL SELECT part, value, denominator FROM by_tier
