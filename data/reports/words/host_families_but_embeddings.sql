-- host_families_count, the families of embedding models left out.
SELECT ip, count(DISTINCT declared_family) AS families,
       bool_or(declared_family = 'llama') AS llama, bool_or(declared_family = 'qwen2') AS qwen2
FROM host_inventory
WHERE NOT remote AND NOT embeds AND declared_family <> '' AND declared_family NOT IN ('clip', 'mmproj')
GROUP BY ip
