-- F11: qwen2 alone, of multi-family hosts
-- definition: hosts on which qwen2 was ever listed, whatever else, of hosts on which two families or more were.
--   Qwen2 is an architecture: DeepSeek distils have it too. Models of a cloud and projectors do not count.
-- note: not published; at least the 52 % of the pair, F9, with which it is often confused
-- row:  ; qwen2 on multi-family hosts ; - ; % ; multi-family hosts
-- row: llama ; llama on multi-family hosts ; - ; % ; multi-family hosts
SELECT '' AS part, 100 * count(*) FILTER (qwen2 AND families >= 2) / nullif(count(*) FILTER (families >= 2), 0) AS value,
       count(*) FILTER (families >= 2) AS denominator FROM host_families_count
UNION ALL
SELECT 'llama', 100 * count(*) FILTER (llama AND families >= 2) / nullif(count(*) FILTER (families >= 2), 0), count(*) FILTER (families >= 2)
FROM host_families_count
