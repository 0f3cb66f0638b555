-- At which precision are models served?
-- definition: the nominal bits and the normalised label of each model a host itself serves; models served by a cloud are
--   left out. A model is told apart by host, name and digest.
-- unit: host-model pair (distinct IP, name, digest); the columns named so count hosts
-- denominator: share_of_models: {models} pairs; share_of_known: {models_with_bits} pairs of known bits,
--   {models_with_label} with a known label; share_of_hosts: {hosts} hosts, empty and unreadable ones included
-- weighting: every pair counts once; a host counts once in each row it has a model of
-- parameter: embeddings = include | exclude; models that only embed or rerank (bert, nomic-bert, role embedding or rerank)
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT counted.*,
       (models - models_with_bits) / nullif(models, 0) AS bits_unknown_share,
       population.*
FROM population,
     (SELECT count(*) FILTER (NOT remote) AS models,
             count(quant_bits) FILTER (NOT remote) AS models_with_bits,
             count(quant) FILTER (NOT remote) AS models_with_label,
             count(*) FILTER (remote) AS cloud_models_left_out
      FROM host_model
      WHERE $embeddings = 'include' OR NOT embeds) AS counted;

WITH local AS (SELECT * FROM host_model WHERE NOT remote AND ($embeddings = 'include' OR NOT embeds)),
     named AS (
       SELECT 'bits' AS classification, quant_bits AS bits, NULL AS label, ip, quant_bits IS NOT NULL AS known FROM local
       UNION ALL
       SELECT 'label', quant_bits, quant, ip, quant IS NOT NULL FROM local
     )
SELECT classification,
       CASE WHEN classification = 'bits' THEN bits || '-bit' ELSE label END AS precision,
       count(*) AS models,
       count(*) / sum(count(*)) OVER whole AS share_of_models,
       CASE WHEN any_value(known) THEN count(*) / sum(count(*) FILTER (known)) OVER whole END AS share_of_known,
       count(DISTINCT ip) AS hosts,
       count(DISTINCT ip) / (SELECT count(*) FROM host) AS share_of_hosts
FROM named
GROUP BY 1, 2
WINDOW whole AS (PARTITION BY classification)
ORDER BY classification, models DESC, precision NULLS LAST
