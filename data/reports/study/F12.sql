-- F12: lift of the pair
-- definition: hosts with both families, divided by what independence would give: P(ab) / (P(a) P(b)). Near 1, the
--   pair is as frequent as its families are. Models of a cloud and projectors do not count.
-- row:  ; lift of llama and qwen2, over all hosts ; - ; ratio ; hosts
-- row: known ; … over hosts with a known family ; - ; ratio ; hosts with a family ; variant
-- row: multi_family ; … over multi-family hosts ; - ; ratio ; multi-family hosts ; variant
WITH c AS (
       SELECT (SELECT count(*) FROM host_life) AS hosts, count(*) AS known, count(*) FILTER (families >= 2) AS multi,
              count(*) FILTER (llama) AS llama, count(*) FILTER (qwen2) AS qwen2, count(*) FILTER (llama AND qwen2) AS pair,
              count(*) FILTER (llama AND families >= 2) AS llama_multi, count(*) FILTER (qwen2 AND families >= 2) AS qwen2_multi
       FROM host_families_count
     )
SELECT '' AS part, pair * hosts / nullif(llama * qwen2, 0) AS value, hosts AS denominator FROM c
UNION ALL SELECT 'known', pair * known / nullif(llama * qwen2, 0), known FROM c
UNION ALL SELECT 'multi_family', pair * multi / nullif(llama_multi * qwen2_multi, 0), multi FROM c
