-- Which server programs answer, and how many ask for a key?
-- definition: the program that the deciding rule of data/servers/ named, at the latest observation of each endpoint.
--   A program that answers as another (an emulator, a proxy) is counted as what it is. open_endpoints show their
--   metadata to anybody; nothing was tested beyond reading it.
-- unit: host (distinct IP); the columns named so count endpoints (IP, port, domain)
-- denominator: share_of_hosts: {hosts} hosts; share_of_endpoints: {endpoints} endpoints; open_share: the endpoints
--   of that server
-- weighting: a host counts once for each server it runs, so shares of hosts can add up to more than 100 %
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT count(DISTINCT ip) AS hosts, count(*) AS endpoints, count(*) FILTER (auth IS NULL) AS auth_unknown_endpoints
FROM endpoint_now;

SELECT server,
       count(DISTINCT ip) AS hosts,
       count(DISTINCT ip) / (SELECT count(DISTINCT ip) FROM endpoint_now) AS share_of_hosts,
       count(*) AS endpoints,
       count(*) / (SELECT count(*) FROM endpoint_now) AS share_of_endpoints,
       count(*) FILTER (auth = 'open') AS open_endpoints,
       count(*) FILTER (auth = 'open') / count(*) AS open_share
FROM endpoint_now
GROUP BY server
ORDER BY hosts DESC, server
