-- The brand families of the models listed at each host.
--
-- Unit: one row for each run, host and lineage. A host is an IP address: the union over its ports and domains. A lineage is
--   brand_family: the line under which the publisher releases a model (a Qwen distilled by DeepSeek is DeepSeek).
-- Columns: run_id; host; lineage; suspect (the strongest doubt among the endpoints that list it, 0 to 2).
-- Promise: equals hosts.lineages, unnested. Models whose brand is unknown, models served by a
--   cloud, and names that only claim a hosted brand, are not in it.
SELECT run_id, ip AS host, lineage, max(suspect) AS suspect
FROM (SELECT run_id, ip, suspect, unnest(lineages) AS lineage FROM hosts)
GROUP BY run_id, ip, lineage
