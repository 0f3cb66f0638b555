-- What kinds of networks are the hosts in?
-- definition: two independent classes of a host's autonomous system, each decided by a rule of data/networks/: its type
--   and its infrastructure tier; of its latest observation. What no rule decides is unknown, and stays in the denominator.
-- unit: host (distinct IP)
-- denominator: share_of_hosts: {hosts} hosts; share_of_known: {hosts_with_type} hosts of known type, {hosts_with_tier}
--   of known tier
-- weighting: every host counts once in each classification
-- evidence: geolocation
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT count(*) AS hosts,
       count(place.network_type) AS hosts_with_type,
       count(place.tier) AS hosts_with_tier,
       (hosts - hosts_with_type) / nullif(hosts, 0) AS type_unknown_share,
       (hosts - hosts_with_tier) / nullif(hosts, 0) AS tier_unknown_share
FROM host;

WITH classed AS (
       SELECT 'type' AS classification, place.network_type AS class FROM host
       UNION ALL
       SELECT 'tier', place.tier FROM host
     )
SELECT classification,
       class,
       count(*) AS hosts,
       count(*) / sum(count(*)) OVER (PARTITION BY classification) AS share_of_hosts,
       CASE WHEN class IS NOT NULL
            THEN count(*) / sum(count(class)) OVER (PARTITION BY classification) END AS share_of_known
FROM classed
GROUP BY classification, class
ORDER BY classification DESC, hosts DESC, class NULLS LAST
