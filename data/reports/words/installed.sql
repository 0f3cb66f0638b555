-- Where each marked inventory was, by month: one row per inventory's mark, host, autonomous system and month; days_seen as
-- in sightings.
SELECT i.installation, s.ip, s.asn, s.month, bit_or(s.days_seen) AS days_seen
FROM inventory_sightings s JOIN inventories i USING (inventory) SEMI JOIN hosts_asked_for ON hosts_asked_for.ip = s.ip
WHERE i.installation IS NOT NULL
GROUP BY ALL
