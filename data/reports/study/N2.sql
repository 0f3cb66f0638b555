-- N2: networks of unknown type
-- definition: hosts whose autonomous system has this type at the latest observation; what no rule classifies is
--   unknown and stays in the denominator. Type and tier are two classifications, each on its own.
-- row:  ; networks of unknown type ; 19 ; % ; hosts
SELECT '' AS part, 100 * count(*) FILTER (network_type IS NULL) / count(*) AS value, count(*) AS denominator FROM host_life
