-- What each host with a known capability was ever said to be capable of: one row per host. Unknown is not without.
SELECT ip,
       bool_or(list_contains(capabilities, 'tools')) AS tools,
       bool_or(list_contains(capabilities, 'vision')) AS vision,
       bool_or(list_contains(capabilities, 'thinking')) AS thinking,
       bool_or(list_contains(capabilities, 'completion')) AS completion,
       bool_or(list_contains(capabilities, 'embedding')) AS embedding,
       bool_or(list_sort(list_distinct(capabilities)) = ['completion', 'tools']) AS exactly_tools,
       list_sort(list_distinct(flatten(list(capabilities)))) = ['completion', 'tools'] AS union_exactly_tools
FROM host_inventory
WHERE capabilities IS NOT NULL
GROUP BY ip
