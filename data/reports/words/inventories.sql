-- The inventories that were seen, each once: one row per inventory, with its mark and the marks of its models. listed are the
-- models in order, [name, digest, time of change as sent]; files is their hash, null where twins could not be told: with fewer
-- than two, or one without digest or time. A summary.
-- merge: any_value(installation), any_value(marks), any_value(listed), any_value(files)
WITH shown_first AS (
       SELECT inventory, any_value(installation) AS installation,
              unnest(min({'run_id': run_id, 'ip': ip, 'port': port, 'domain': domain}))
       FROM inventoried GROUP BY inventory
     )
SELECT inventory, any_value(installation) AS installation,
       list(installation_mark ORDER BY installation_mark) FILTER (installation_mark IS NOT NULL) AS marks,
       list([name, digest, modified_at_raw] ORDER BY name, digest, modified_at_raw) AS listed,
       CASE WHEN count(DISTINCT (name, digest, modified_at_raw)) >= 2 AND count(digest) = count(*) AND count(modified_at_raw) = count(*)
            THEN hash(list([name, digest, modified_at_raw] ORDER BY name, digest, modified_at_raw)) END AS files
FROM shown_first JOIN models USING (run_id, ip, port, domain)
WHERE is_remote IS NOT TRUE
GROUP BY inventory
