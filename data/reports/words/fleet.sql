-- One row per fleet: an inventory that five hosts or more, in two autonomous systems or more, listed on one day;
-- as on the day when most did.
SELECT inventory,
       day,
       count(DISTINCT ip) AS hosts,
       count(DISTINCT asn) AS systems,
       count(DISTINCT country) AS countries,
       count(DISTINCT ip) FILTER (suspect = 2) AS suspect_hosts
FROM twin
GROUP BY inventory, day
HAVING hosts >= 5 AND systems >= 2
QUALIFY row_number() OVER (PARTITION BY inventory ORDER BY hosts DESC, systems DESC, day DESC) = 1
