-- In which countries are the hosts?
-- definition: the country of a host's address in the geolocation database of its run; of its latest observation where
--   it was seen more than once. Hong Kong, Taiwan and Macao are counted as the database has them, apart from CN.
-- unit: host (distinct IP)
-- denominator: share_of_hosts: {hosts} hosts; share_of_known: {located_hosts} hosts whose country is known
-- weighting: every host counts once
-- evidence: geolocation
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT count(*) AS hosts,
       count(place.country) AS located_hosts,
       count(DISTINCT place.country) AS countries,
       (hosts - located_hosts) / nullif(hosts, 0) AS unknown_share,
       count(*) FILTER (n_models = 0) / nullif(hosts, 0) AS empty_share
FROM host;

WITH counted AS (SELECT place.country AS country, count(*) AS hosts FROM host GROUP BY 1)
SELECT country,
       hosts,
       hosts / (SELECT count(*) FROM host) AS share_of_hosts,
       CASE WHEN country IS NOT NULL THEN hosts / (SELECT count(place.country) FROM host) END AS share_of_known
FROM counted
ORDER BY hosts DESC, country NULLS LAST
