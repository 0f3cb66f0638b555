-- What can the models on exposed hosts do?
-- definition: a host has a capability when a model it listed declares it. Servers derive the list from the model's file
--   and template: tools means the model can emit tool calls, not that any are wired. Servers that cannot say (Ollama before
--   0.6.4, for one) are unknown, never without. Models served by a cloud count: the host offers them. The last two rows
--   are combinations: a model whose list is exactly completion and tools, and a host with both chat and embedding models.
-- unit: host (distinct IP); the column named so counts host-model pairs
-- denominator: share_of_hosts: {hosts} hosts, empty and unreadable ones included; share_of_known: {hosts_with_known}
--   hosts with at least one model whose capabilities are known
-- weighting: every host counts once for each capability
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT population.*,
       hosts_with_known,
       (hosts - hosts_with_known) / nullif(hosts, 0) AS unknown_share
FROM population,
     (SELECT count(DISTINCT ip) AS hosts_with_known FROM host_model WHERE capabilities IS NOT NULL);

WITH known AS (SELECT ip, list_sort(list_distinct(capabilities)) AS declared FROM host_model WHERE capabilities IS NOT NULL),
     single AS (
       SELECT capability, count(DISTINCT ip) AS hosts, count(*) AS models
       FROM (SELECT ip, unnest(declared) AS capability FROM known) GROUP BY capability
     ),
     combined AS (
       SELECT 'exactly [completion, tools]' AS capability, count(DISTINCT ip) AS hosts, count(*) AS models
       FROM known WHERE declared = ['completion', 'tools']
       UNION ALL
       SELECT 'completion beside embedding', count(*), NULL
       FROM (SELECT ip FROM known GROUP BY ip
             HAVING bool_or(list_contains(declared, 'completion')) AND bool_or(list_contains(declared, 'embedding')))
     ),
     told AS (SELECT 1 AS part, * FROM single UNION ALL SELECT 2, * FROM combined)
SELECT capability,
       hosts,
       hosts / (SELECT nullif(count(*), 0) FROM host) AS share_of_hosts,
       hosts / (SELECT nullif(count(DISTINCT ip), 0) FROM known) AS share_of_known,
       models
FROM told
ORDER BY part, hosts DESC, capability
