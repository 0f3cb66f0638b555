-- Hosts that listed an inventory of which twins could be told, shared or not: one row per host.
SELECT DISTINCT ip FROM shown JOIN inventories USING (inventory) WHERE files IS NOT NULL
