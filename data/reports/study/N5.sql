-- N5: networks of unknown tier
-- definition: hosts whose autonomous system has this infrastructure tier at the latest observation; what no rule
--   classifies is unknown and stays in the denominator. Type and tier are two classifications, each on its own.
-- row:  ; networks of unknown tier ; 16 ; % ; hosts
SELECT '' AS part, 100 * count(*) FILTER (tier IS NULL) / count(*) AS value, count(*) AS denominator FROM host_life
