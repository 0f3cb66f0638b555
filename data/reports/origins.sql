-- From which countries do the served models come?
-- definition: the country of a developer, never of the server or of whoever fine-tuned an unnamed derivative, by four notions:
--   architecture (the laboratory the declared family is named for), brand (who publishes the line), weights (whose
--   pre-training), either (brand or weights: a model of both counts in both countries). Rows of one notion never mix with
--   another's. Models served by a cloud are left out.
-- unit: host-model pair (distinct IP, name, digest); the columns named so count hosts
-- denominator: share_of_models: {models} pairs; share_of_known: those whose country is known by that notion
--   ({known_by_architecture}, {known_by_brand}, {known_by_weights}, {known_by_either}); share_of_hosts: {hosts} hosts,
--   empty and unreadable ones included
-- weighting: every pair counts once in each notion; a host counts once in each country it serves a model of
-- parameter: embeddings = include | exclude; models that only embed or rerank (bert, nomic-bert, role embedding or rerank)
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT known.*, population.*
FROM population,
     (SELECT count(*) AS models,
             count(country) AS known_by_architecture,
             count(developer_country) AS known_by_brand,
             count(weights_country) AS known_by_weights,
             count(coalesce(developer_country, weights_country)) AS known_by_either
      FROM host_model LEFT JOIN architecture_country USING (declared_family)
      WHERE NOT remote AND ($embeddings = 'include' OR NOT embeds)) AS known;

WITH local AS (
       SELECT ip, name, digest, architecture_country.country AS architecture, developer_country AS brand, weights_country AS weights
       FROM host_model LEFT JOIN architecture_country USING (declared_family)
       WHERE NOT remote AND ($embeddings = 'include' OR NOT embeds)
     ),
     attributed AS (
       SELECT 1 AS part, 'architecture' AS notion, architecture AS country, ip FROM local
       UNION ALL
       SELECT 2, 'brand', brand, ip FROM local
       UNION ALL
       SELECT 3, 'weights', weights, ip FROM local
       UNION ALL
       SELECT 4, 'either', coalesce(brand, weights), ip FROM local
       UNION ALL
       SELECT 4, 'either', weights, ip FROM local WHERE weights <> brand
     ),
     known AS (
       SELECT count(architecture) AS architecture, count(brand) AS brand, count(weights) AS weights,
              count(coalesce(brand, weights)) AS either, count(*) AS models
       FROM local
     )
SELECT notion,
       country,
       count(*) AS models,
       count(*) / any_value(known.models) AS share_of_models,
       CASE WHEN country IS NOT NULL
            THEN count(*) / any_value(CASE notion WHEN 'architecture' THEN known.architecture WHEN 'brand' THEN known.brand
                                                  WHEN 'weights' THEN known.weights ELSE known.either END) END AS share_of_known,
       count(DISTINCT ip) AS hosts,
       count(DISTINCT ip) / (SELECT count(*) FROM host) AS share_of_hosts
FROM attributed, known
GROUP BY part, notion, country
ORDER BY part, models DESC, country NULLS LAST
