-- Why are hosts doubted?
-- definition: the reasons for doubt of data/suspicion.toml that held for any endpoint of a host in any run covered. A host is
--   suspect (strongly doubted) at score 2, weakly doubted at 1. Doubted hosts are in every report unless asked out.
-- unit: host (distinct IP)
-- denominator: share_of_hosts: {hosts} hosts; {suspect_hosts} of them suspect, {weakly_doubted_hosts} weakly doubted
-- weighting: every host counts once for each reason, so shares do not add up
SELECT count(*) AS hosts,
       count(*) FILTER (score = 2) AS suspect_hosts,
       count(*) FILTER (score = 1) AS weakly_doubted_hosts,
       suspect_hosts / nullif(hosts, 0) AS suspect_share
FROM doubt;

SELECT reason,
       count(*) AS hosts,
       count(*) / (SELECT count(*) FROM doubt) AS share_of_hosts,
       count(*) FILTER (score = 2) AS suspect_hosts
FROM (SELECT DISTINCT ip, reason FROM reasons) AS given JOIN doubt USING (ip)
GROUP BY reason
ORDER BY hosts DESC, reason
