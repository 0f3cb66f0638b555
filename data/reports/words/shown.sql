-- When each endpoint showed each inventory, by month, of the hosts and the server program asked for: rows of
-- inventory_sightings.
SELECT * FROM inventory_sightings SEMI JOIN hosts_asked_for USING (ip) WHERE $server = 'any' OR server = $server
