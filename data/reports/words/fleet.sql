-- One row per fleet: an inventory that five hosts or more, in two autonomous systems or more, listed on one day;
-- as on the day when most did.
WITH together AS (
       SELECT files,
              day,
              count(DISTINCT ip) AS hosts,
              count(DISTINCT asn) AS systems,
              count(DISTINCT country) AS countries,
              count(DISTINCT ip) FILTER (suspect = 2) AS suspect_hosts
       FROM twin
       GROUP BY files, day
       HAVING hosts >= 5 AND systems >= 2
       QUALIFY row_number() OVER (PARTITION BY files ORDER BY hosts DESC, systems DESC, day DESC) = 1
     )
SELECT together.*, told.listed AS inventory
FROM together JOIN (SELECT files, any_value(listed) AS listed FROM inventories GROUP BY files) AS told USING (files)
