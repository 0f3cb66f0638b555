-- Who listed which local inventory on which day (UTC): one row per inventory, day, host and place, of inventories that five
-- hosts or more had. An inventory is every local model of an endpoint with name, digest and modified_at as sent: two at
-- least, and none without digest or time.
WITH told AS (
       SELECT inventory, [[file.name, file.digest, file.written] FOR file IN listed] AS models
       FROM inventories
       WHERE len(list_distinct([[file.name, file.digest, file.written] FOR file IN listed])) >= 2
         AND len(list_filter(listed, lambda file: file.digest IS NULL OR file.written IS NULL)) = 0
     ),
     shared AS (
       SELECT models FROM shown JOIN told USING (inventory) GROUP BY models HAVING count(DISTINCT ip) >= 5
     )
SELECT models AS inventory, (month + to_days(bit::INTEGER))::DATE AS day, ip, asn, country, max(suspect) AS suspect
FROM shown JOIN told USING (inventory) SEMI JOIN shared USING (models), range(31) AS bits(bit)
WHERE days_seen & (1 << bit)::INTEGER <> 0
GROUP BY ALL
