-- F8: hosts with llama and qwen2
-- definition: hosts on which both families were ever listed, not necessarily on the same day. Models of a cloud
--   and projectors do not count.
-- note: the pair; it is often quoted as a figure of qwen2 alone, which is F11
-- row:  ; llama and qwen2 on one host ; 40694 ; hosts ; -
SELECT '' AS part, count(*) FILTER (llama AND qwen2) AS value, NULL::BIGINT AS denominator FROM host_families_count
