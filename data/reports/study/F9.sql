-- F9: the pair llama and qwen2, of multi-family hosts
-- definition: hosts on which both families were ever listed, of hosts on which two families or more were. Models
--   of a cloud and projectors do not count.
-- note: the pair, not qwen2: the share of qwen2 alone is F11
-- row:  ; llama and qwen2 together, of multi-family hosts ; 52 ; % ; multi-family hosts
-- row: no_embeddings ; … families of embedding models left out ; - ; % ; multi-family hosts ; variant
-- row: independent ; expected were the two families independent, over hosts with a family ; - ; % ; multi-family
--   hosts
SELECT '' AS part, 100 * count(*) FILTER (llama AND qwen2) / nullif(count(*) FILTER (families >= 2), 0) AS value,
       count(*) FILTER (families >= 2) AS denominator
FROM host_families_count
UNION ALL
SELECT 'no_embeddings', 100 * count(*) FILTER (llama AND qwen2) / nullif(count(*) FILTER (families >= 2), 0), count(*) FILTER (families >= 2)
FROM host_families_but_embeddings
UNION ALL
SELECT 'independent', 100 * count(*) FILTER (llama) * count(*) FILTER (qwen2) / count(*) / nullif(count(*) FILTER (families >= 2), 0), count(*) FILTER (families >= 2)
FROM host_families_count
