-- What each host with a known capability was ever said to be capable of: one row per host. Unknown is not without.
WITH capable AS (
       SELECT kind, list_contains(capabilities, 'tools') AS tools, list_contains(capabilities, 'vision') AS vision,
              list_contains(capabilities, 'thinking') AS thinking, list_contains(capabilities, 'completion') AS completion,
              list_contains(capabilities, 'embedding') AS embedding,
              list_sort(list_distinct(capabilities)) = ['completion', 'tools'] AS exactly_tools,
              len(list_filter(capabilities, lambda c: c NOT IN ('completion', 'tools'))) > 0 AS more
       FROM described WHERE capabilities IS NOT NULL
     )
SELECT ip, bool_or(tools) AS tools, bool_or(vision) AS vision, bool_or(thinking) AS thinking,
       bool_or(completion) AS completion, bool_or(embedding) AS embedding, bool_or(exactly_tools) AS exactly_tools,
       bool_or(completion) AND bool_or(tools) AND NOT bool_or(more) AS union_exactly_tools
FROM host_listing JOIN capable USING (kind)
GROUP BY ip
