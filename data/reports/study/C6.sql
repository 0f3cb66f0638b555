-- C6: hosts with a known capability
-- definition: hosts that ever said what one of their models can do. Servers say it of a model from Ollama 0.6.4 on,
--   thinking from 0.9.0; what older ones have is unknown, not absent, and lowers the share of all hosts. It is what
--   the file and its template can do, not what is wired.
-- row:  ; hosts with a known capability ; - ; % ; hosts
-- row: filled ; … of hosts with a model ; - ; % ; hosts with a model ; variant
SELECT '' AS part, 100 * count(*) / (SELECT count(*) FROM host_life) AS value, (SELECT count(*) FROM host_life) AS denominator FROM host_capability
UNION ALL SELECT 'filled', 100 * count(*) / (SELECT nullif(count(*), 0) FROM host_trait), (SELECT count(*) FROM host_trait) FROM host_capability
