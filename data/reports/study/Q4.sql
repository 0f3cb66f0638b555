-- Q4: rank of Q4_K_M in each tier
-- definition: in how many of the four tiers Q4_K_M is the label on the most hosts; of equals, the last by name.
-- row:  ; tiers in which Q4_K_M is first ; 4 ; tiers ; tiers
WITH counted AS (
       SELECT tier, quant, count(DISTINCT ip) AS hosts FROM host_label JOIN host_life USING (ip)
       WHERE quant IS NOT NULL AND tier IN ('Academic', 'Hyperscaler', 'Indie VPS', 'Telecom/Residential') GROUP BY tier, quant
     ),
     first_label AS (SELECT tier, arg_max(quant, (hosts, quant)) AS quant FROM counted GROUP BY tier)
SELECT '' AS part, count(*) FILTER (quant = 'Q4_K_M') AS value, count(*) AS denominator FROM first_label
