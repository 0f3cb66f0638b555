-- How large are the models that hosts serve?
-- definition: bands of total parameters in billions, by the floor of the size as printed, with one decimal (7.6 is in
--   4-7, 8.0 and 14.8 are in 8-14). A host's dominant band holds most of its host-model pairs of known size; of equal
--   bands the larger. hosts_any have a model of the band beside any others. Models served by a cloud are left out.
-- unit: host (distinct IP); the columns named so count host-model pairs (distinct IP, name, digest)
-- denominator: share_of_hosts and share_any: {hosts} hosts, empty and unreadable ones included; share_of_known:
--   {sized_hosts} hosts with a model of known size; share_of_models: {models} pairs
-- weighting: every host counts once in its dominant band, and once in each band it touches
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT population.*,
       counted.*,
       (hosts - sized_hosts) / nullif(hosts, 0) AS unknown_share,
       (models - sized_models) / nullif(models, 0) AS models_unknown_share
FROM population,
     (SELECT count(DISTINCT ip) FILTER (params_b IS NOT NULL) AS sized_hosts,
             count(*) AS models,
             count(params_b) AS sized_models
      FROM host_model
      WHERE NOT remote) AS counted;

WITH band(band, low, high) AS (
       VALUES ('<1', 0, 1), ('1-3', 1, 4), ('4-7', 4, 8), ('8-14', 8, 15), ('15-34', 15, 35), ('35-79', 35, 80), ('80+', 80, NULL)
     ),
     local AS (SELECT ip, floor(round(params_b, 1)) AS size FROM host_model WHERE NOT remote),
     touched AS (
       SELECT ip, band, low, count(*) AS models
       FROM local LEFT JOIN band ON size >= low AND (size < high OR high IS NULL)
       GROUP BY ALL
     ),
     dominant AS (SELECT ip, arg_max(band, (models, low)) AS band FROM touched WHERE band IS NOT NULL GROUP BY ip),
     main AS (SELECT dominant.band, count(*) AS hosts FROM host LEFT JOIN dominant USING (ip) GROUP BY ALL),
     any_of AS (SELECT band, count(*) AS hosts, sum(models)::BIGINT AS models FROM touched GROUP BY band)
SELECT every.band,
       coalesce(main.hosts, 0) AS hosts,
       coalesce(main.hosts, 0) / (SELECT count(*) FROM host) AS share_of_hosts,
       CASE WHEN every.band IS NOT NULL
            THEN coalesce(main.hosts, 0) / (SELECT nullif(count(*), 0) FROM dominant) END AS share_of_known,
       coalesce(any_of.hosts, 0) AS hosts_any,
       coalesce(any_of.hosts, 0) / (SELECT count(*) FROM host) AS share_any,
       coalesce(any_of.models, 0) AS models,
       coalesce(any_of.models, 0) / (SELECT nullif(count(*), 0) FROM local) AS share_of_models
FROM (SELECT band, low FROM band UNION ALL SELECT NULL, NULL) every
LEFT JOIN main ON main.band IS NOT DISTINCT FROM every.band
LEFT JOIN any_of ON any_of.band IS NOT DISTINCT FROM every.band
WHERE (SELECT count(*) FROM host) > 0
ORDER BY every.low NULLS LAST
