-- C2: exactly completion and tools
-- definition: hosts on which a model was ever listed whose capabilities are exactly completion and tools. Servers
--   say it of a model from Ollama 0.6.4 on, thinking from 0.9.0; what older ones have is unknown, not absent, and
--   lowers the share of all hosts. It is what the file and its template can do, not what is wired.
-- note: the study does not say of what the combination is
-- row:  ; exactly completion and tools ; 38 ; % ; hosts
-- row: known ; … of hosts with a known capability ; - ; % ; hosts with a known capability ; variant
-- row: union ; hosts whose models together have exactly completion and tools ; - ; % ; hosts ; variant
SELECT '' AS part, 100 * count(*) FILTER (exactly_tools) / (SELECT count(*) FROM host_life) AS value, (SELECT count(*) FROM host_life) AS denominator FROM host_capability
UNION ALL SELECT 'known', 100 * count(*) FILTER (exactly_tools) / nullif(count(*), 0), count(*) FROM host_capability
UNION ALL SELECT 'union', 100 * count(*) FILTER (union_exactly_tools) / (SELECT count(*) FROM host_life), (SELECT count(*) FROM host_life) FROM host_capability
