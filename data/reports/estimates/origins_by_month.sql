-- From which countries do the served models come, month by month?
-- method: of each month the share of hosts with a model whose developer (brand) or pre-training (weights) is of a country, of hosts
--   seen in it, with 95 % intervals by Wilson (1927). A model counts in each month from the run that first lists it to the last
--   in which its endpoint was seen; models of a cloud are left out, unknown countries are rows of their own.
-- rows: months
WITH owned AS (
       SELECT ip, port, domain, date_trunc('month', a.started_at)::DATE AS since, date_trunc('month', b.started_at)::DATE AS until,
              developer_country AS brand, weights_country AS weights
       FROM host_inventory JOIN runs a ON a.run_id = first_run JOIN runs b ON b.run_id = last_run
       WHERE NOT remote
     ),
     notions AS (
       SELECT DISTINCT 'brand' AS notion, brand AS country, ip, port, domain, since, until FROM owned
       UNION ALL SELECT DISTINCT 'weights', weights, ip, port, domain, since, until FROM owned
     ),
     seen AS (SELECT DISTINCT ip, port, domain, month FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server),
     everyone AS (SELECT month, count(DISTINCT ip) AS hosts FROM seen GROUP BY month)
SELECT notion, month, country, count(DISTINCT ip) AS hosts, any_value(everyone.hosts) AS all_hosts
FROM notions JOIN seen USING (ip, port, domain) JOIN everyone USING (month)
WHERE month BETWEEN since AND until
GROUP BY notion, month, country ORDER BY notion, month, hosts DESC, country NULLS LAST
