-- What part of the served models are fine-tunes or distils, and of whose weights?
-- definition: distil: published as a distillation; fine-tune: of a parent line that is known, or with weights of another
--   line than its brand, or published as uncensored; own release: a line's own models; nothing known: no brand and no parent.
--   The first that holds counts. A fine-tune that says nothing of itself counts as its parent's own release, so the share
--   of derivatives is a lower bound. Weights 'all' is the sum over weights. Models served by a cloud are left out.
-- unit: host-model pair (distinct IP, name, digest); the columns named so count hosts
-- denominator: share_of_models: {models} pairs; share_of_known: the {known} whose kind is known; share_of_weights: the pairs
--   with the same weights; share_of_hosts: {hosts} hosts, empty and unreadable ones included
-- weighting: every pair counts once; a host counts once in each row it serves a model of
-- parameter: embeddings = include | exclude; models that only embed or rerank (bert, nomic-bert, role embedding or rerank)
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT served.*, population.*
FROM population,
     (SELECT count(*) AS models,
             count(coalesce(brand_family, base_family)) AS known
      FROM host_model
      WHERE NOT remote AND ($embeddings = 'include' OR NOT embeds)) AS served;

WITH served AS (
       SELECT ip,
              coalesce(weights_family, 'unknown') AS weights,
              CASE WHEN coalesce(brand_family, base_family) IS NULL THEN 'nothing known'
                   WHEN is_distill THEN 'distil'
                   WHEN base_family IS NOT NULL OR weights_family <> brand_family OR uncensored THEN 'fine-tune'
                   ELSE 'own release' END AS kind
       FROM host_model
       WHERE NOT remote AND ($embeddings = 'include' OR NOT embeds)
     ),
     counted AS (
       SELECT kind,
              CASE WHEN grouping(weights) = 1 THEN 'all' ELSE weights END AS weights,
              count(*) AS models,
              count(DISTINCT ip) AS hosts
       FROM served
       GROUP BY GROUPING SETS ((kind), (kind, weights))
     )
SELECT kind,
       weights,
       models,
       models / sum(models) FILTER (weights = 'all') OVER () AS share_of_models,
       CASE WHEN kind <> 'nothing known'
            THEN models / sum(models) FILTER (weights = 'all' AND kind <> 'nothing known') OVER () END AS share_of_known,
       CASE WHEN weights <> 'all' THEN models / sum(models) OVER (PARTITION BY weights) END AS share_of_weights,
       hosts,
       hosts / (SELECT count(*) FROM host) AS share_of_hosts
FROM counted
ORDER BY list_position(['distil', 'fine-tune', 'own release', 'nothing known'], kind), weights <> 'all', models DESC, weights
