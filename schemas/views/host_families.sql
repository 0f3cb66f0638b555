-- The model families declared at each host.
--
-- Unit: one row for each run, host and family. A host is an IP address: the union over its ports and domains. A family is
--   family_raw in lower case, as the server declares it: an architecture, not a brand (host_lineages has brands).
-- Columns: run_id; host; family; suspect (the strongest doubt among the endpoints that declare it, 0 to 2).
-- Promise: equals hosts.families, unnested. Projectors that a model lists beside its family ("clip" in families_raw) and models
--   served by a cloud never count.
SELECT run_id, ip AS host, family, max(suspect) AS suspect
FROM (SELECT run_id, ip, suspect, unnest(families) AS family FROM hosts)
GROUP BY run_id, ip, family
