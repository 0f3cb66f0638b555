-- N4: telecom and residential networks
-- definition: hosts whose autonomous system has this infrastructure tier at the latest observation; what no rule
--   classifies is unknown and stays in the denominator. Type and tier are two classifications, each on its own.
-- row:  ; telecom and residential networks ; 32 ; % ; hosts
-- row: known ; telecom and residential networks, of those of known class ; - ; % ; hosts of known class ; variant
SELECT '' AS part, 100 * count(*) FILTER (tier = 'Telecom/Residential') / count(*) AS value, count(*) AS denominator FROM host_life
UNION ALL SELECT 'known', 100 * count(*) FILTER (tier = 'Telecom/Residential') / nullif(count(tier), 0), count(tier) FROM host_life
