-- Which model families do exposed hosts serve?
-- definition: a host serves a family when any of its endpoints listed a model of it, in any run covered; models served
--   by a cloud and projectors do not count. family_raw is what the server declares, an architecture, lower-cased and
--   nothing merged (qwen2 holds DeepSeek's distillations of Qwen; llama holds Mistral-7B); lineage is the brand;
--   weights is whose pre-training. Rows of one notion never mix with another's.
-- unit: host (distinct IP)
-- denominator: share_of_hosts: {hosts} hosts, empty and unreadable ones included; share_of_known: {hosts_with_family}
--   hosts with a known family; share_of_multi_family: {multi_family_hosts} hosts with two families or more
-- weighting: every host counts once, in each of its families, so shares add up to more than 100 %
-- parameter: by = family_raw | lineage | weights; what a family is
-- parameter: embeddings = include | exclude; models that only embed or rerank (bert, nomic-bert, role embedding or rerank)
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT population.*,
       known.*,
       multi_family_hosts / nullif(hosts, 0) AS multi_family_share_of_hosts,
       (SELECT count(DISTINCT ip) FROM listed WHERE remote) AS hosts_listing_cloud_models
FROM population,
     (SELECT count(*) AS hosts_with_family, count(*) FILTER (families >= 2) AS multi_family_hosts FROM portfolio) AS known;

WITH counted AS (
       SELECT family, count(*) AS hosts, count(*) FILTER (families >= 2) AS multi_family_hosts
       FROM host_family JOIN portfolio USING (ip) GROUP BY family
     )
SELECT rank() OVER (ORDER BY hosts DESC) AS rank,
       family,
       hosts,
       hosts / (SELECT count(*) FROM host) AS share_of_hosts,
       hosts / (SELECT count(*) FROM portfolio) AS share_of_known,
       multi_family_hosts,
       multi_family_hosts / (SELECT nullif(count(*), 0) FROM portfolio WHERE families >= 2) AS share_of_multi_family
FROM counted
ORDER BY hosts DESC, family
