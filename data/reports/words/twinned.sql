-- Hosts that listed an inventory of which twins could be told, shared or not: one row per host.
SELECT DISTINCT ip
FROM shown JOIN inventories USING (inventory)
WHERE len(list_distinct([[file.name, file.digest, file.written] FOR file IN listed])) >= 2
  AND len(list_filter(listed, lambda file: file.digest IS NULL OR file.written IS NULL)) = 0
