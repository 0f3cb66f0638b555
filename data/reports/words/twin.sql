-- Who listed which local inventory on which day (UTC): one row per host, inventory and day. An inventory is every local
-- model of an endpoint with name, digest and modified_at as sent: two at least, and none without digest or time.
WITH shown AS (
  SELECT run_id, ip, port, domain,
         list((name, digest, modified_at_raw) ORDER BY name, digest, modified_at_raw) AS inventory
  FROM listed
  WHERE NOT remote
  GROUP BY run_id, ip, port, domain
  HAVING count(DISTINCT (name, digest, modified_at_raw)) >= 2 AND count(*) = count(digest) AND count(*) = count(modified_at_raw)
)
SELECT shown.inventory,
       e.observed_at::DATE AS day,
       shown.ip,
       arg_max({'asn': e.asn, 'country': e.country}, (e.run_id, e.port, e.domain)) AS place,
       max(e.suspect) AS suspect
FROM shown JOIN endpoint e USING (run_id, ip, port, domain)
GROUP BY shown.inventory, day, shown.ip
