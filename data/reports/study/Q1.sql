-- Q1: Q4_K_M
-- definition: hosts on which a model of this quantization was ever listed, of all hosts; models served by a cloud
--   do not count.
-- row:  ; hosts with a Q4_K_M model ; 48 ; % ; hosts
-- row: filled ; … of hosts with a model ; - ; % ; hosts with a model ; variant
SELECT '' AS part, 100 * count(DISTINCT ip) FILTER (quant = 'Q4_K_M') / (SELECT count(*) FROM host_life) AS value, (SELECT count(*) FROM host_life) AS denominator FROM host_label
UNION ALL SELECT 'filled', 100 * count(DISTINCT ip) FILTER (quant = 'Q4_K_M') / count(DISTINCT ip), count(DISTINCT ip) FROM host_label
