-- N1: fixed-access telecom
-- definition: hosts whose autonomous system has this type at the latest observation; what no rule classifies is
--   unknown and stays in the denominator. Type and tier are two classifications, each on its own.
-- row:  ; fixed-access telecom ; 56 ; % ; hosts
-- row: known ; fixed-access telecom, of those of known class ; - ; % ; hosts of known class ; variant
SELECT '' AS part, 100 * count(*) FILTER (network_type = 'fixed-access telecom') / count(*) AS value, count(*) AS denominator FROM host_life
UNION ALL SELECT 'known', 100 * count(*) FILTER (network_type = 'fixed-access telecom') / nullif(count(network_type), 0), count(network_type) FROM host_life
