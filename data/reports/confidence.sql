-- How sure is the identification of the servers?
-- definition: the rule of data/servers/ that decided at the latest observation of each endpoint, with the confidence the
--   rule states (0 to 1). contested_endpoints also matched a rule of another server.
-- unit: endpoint (IP, port, domain)
-- denominator: share_of_endpoints: {endpoints} endpoints on {hosts} hosts
-- weighting: every endpoint counts once
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT count(*) AS endpoints, count(DISTINCT ip) AS hosts, count(*) FILTER (len(near) > 0) AS contested_endpoints
FROM endpoint_now;

SELECT server,
       rule,
       confidence,
       count(*) AS endpoints,
       count(*) / (SELECT count(*) FROM endpoint_now) AS share_of_endpoints,
       count(*) FILTER (len(near) > 0) AS contested_endpoints
FROM endpoint_now
GROUP BY server, rule, confidence
ORDER BY endpoints DESC, server, rule, confidence
