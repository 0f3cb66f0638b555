-- Q3: 16-bit labels
-- definition: models (host, name and digest, each once) whose quantization has nominally 16 bits, of those whose
--   quantization is known; models served by a cloud do not count.
-- weighting: host-model pairs
-- row:  ; 16-bit labels ; 19 ; % ; models with a known label
-- row: observations ; … weighted by observations ; - ; % ; model observations ; variant
-- row: no_embeddings ; … embedding models left out ; - ; % ; models with a known label ; variant
-- row: hosts ; hosts with such a model ; - ; % ; hosts ; variant
SELECT '' AS part, 100 * count(*) FILTER (quant_bits = 16) / nullif(count(quant_bits), 0) AS value, count(quant_bits) AS denominator FROM host_label
UNION ALL SELECT 'observations', 100 * sum(runs) FILTER (quant_bits = 16) / sum(runs) FILTER (quant_bits IS NOT NULL), sum(runs) FILTER (quant_bits IS NOT NULL) FROM host_label
UNION ALL SELECT 'no_embeddings', 100 * count(*) FILTER (quant_bits = 16) / nullif(count(quant_bits), 0), count(quant_bits) FROM host_label WHERE NOT embeds
UNION ALL SELECT 'hosts', 100 * count(DISTINCT ip) FILTER (quant_bits = 16) / (SELECT count(*) FROM host_life), (SELECT count(*) FROM host_life) FROM host_label
