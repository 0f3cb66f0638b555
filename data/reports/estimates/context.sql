-- What do other indicators of adoption say, beside what was measured?
-- method: published figures as quoted, each with population, period and publisher, beside the share of host-model pairs and of hosts
--   with a model whose developer's country (origin), brand, or declared architecture (family) is the one that the indicator
--   speaks of; models of a cloud are left out. Mind the warning: no two of these figures have one population.
-- rows: measured
WITH owned AS (
       SELECT DISTINCT ip, file, developer_country AS origin, brand_family AS brand, declared_family AS family
       FROM host_inventory WHERE NOT remote
     ),
     named AS (UNPIVOT owned ON origin, brand, family INTO NAME notion VALUE measured)
SELECT notion, measured, count(*) AS models, count(*) / (SELECT count(*) FROM owned) AS share_of_models,
       count(DISTINCT ip) AS hosts, count(DISTINCT ip) / (SELECT count(*) FROM host_life) AS share_of_hosts
FROM named WHERE measured NOT IN ('', 'clip', 'mmproj')
GROUP BY notion, measured ORDER BY notion, hosts DESC, measured
