-- C5: chat beside embedding
-- definition: hosts on which both a model that completes and one that embeds were ever listed. Servers say it of a
--   model from Ollama 0.6.4 on, thinking from 0.9.0; what older ones have is unknown, not absent, and lowers the
--   share of all hosts. It is what the file and its template can do, not what is wired.
-- row:  ; chat beside embedding ; - ; % ; hosts
-- row: known ; … of hosts with a known capability ; - ; % ; hosts with a known capability ; variant
SELECT '' AS part, 100 * count(*) FILTER (completion AND embedding) / (SELECT count(*) FROM host_life) AS value, (SELECT count(*) FROM host_life) AS denominator FROM host_capability
UNION ALL SELECT 'known', 100 * count(*) FILTER (completion AND embedding) / nullif(count(*), 0), count(*) FROM host_capability
