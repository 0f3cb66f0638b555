-- Who listed which local inventory on which day (UTC): one row per inventory, day, host and place, of inventories that five
-- hosts or more had. An inventory is every local model of an endpoint with name, digest and modified_at as sent: two at
-- least, and none without digest or time.
WITH told AS (SELECT shown.*, files FROM shown JOIN inventories USING (inventory) WHERE files IS NOT NULL)
SELECT files, (month + to_days(bit::INTEGER))::DATE AS day, ip, asn, country, max(suspect) AS suspect
FROM told SEMI JOIN (SELECT files FROM told GROUP BY files HAVING count(DISTINCT ip) >= 5) AS shared USING (files),
     range(31) AS bits(bit)
WHERE days_seen & (1 << bit)::INTEGER <> 0
GROUP BY ALL
