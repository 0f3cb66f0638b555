-- Which inventories stand on many networks at once, to the nanosecond?
-- definition: a fleet is five hosts or more, in two autonomous systems or more, that listed on one day (UTC) the same local
--   models with equal name, digest and modified_at as sent, two models at least. A pull writes its own time, so equal
--   times are a copied image: decoys, clones, or one machine behind many addresses. Hosts that have an inventory one after
--   the other are churn and no fleet. An endpoint that lists a local model without digest or time is in none.
-- unit: fleet; the columns named so count hosts (distinct IP), autonomous systems and countries, where known, on the day
--   when it had most hosts; suspect_hosts are those with score 2 by their own answers
-- denominator: share_of_hosts: {hosts_with_inventory} hosts that listed two such models or more; {hosts_in_fleets} of
--   them are in {fleets} fleets
-- weighting: every host counts once in each fleet it was in
-- evidence: geolocation
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
WITH counted AS (
       SELECT (SELECT count(*) FROM fleet) AS fleets,
              (SELECT count(DISTINCT ip) FROM twin JOIN fleet USING (files, day)) AS hosts_in_fleets,
              (SELECT count(*) FROM twinned) AS hosts_with_inventory
     )
SELECT *, hosts_in_fleets / nullif(hosts_with_inventory, 0) AS fleet_share_of_hosts FROM counted;

SELECT row_number() OVER (ORDER BY hosts DESC, systems DESC, inventory) AS fleet,
       hosts,
       hosts / (SELECT count(*) FROM twinned) AS share_of_hosts,
       systems,
       countries,
       suspect_hosts,
       day::VARCHAR AS day,
       len(inventory) AS models,
       array_to_string([model[1] FOR model IN inventory[1:3]], ', ') AS first_models
FROM fleet
ORDER BY fleet
