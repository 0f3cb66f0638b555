-- What appeared, went and changed between two censuses?
-- definition: an endpoint is there when it was identified as an AI server. gone: there before, asked again, and not there
--   (reason: how it ended this time). appeared: there now, asked before, and not there then (reason: how it ended
--   then). changed: there both times, and its server, version or inventory differs; what is unknown on either side has not
--   changed. not asked again, not asked before: absence that says nothing, counted apart. rules: not the world changed but
--   what the census makes of it: the same answers of the same run as they were concluded when it was published and as they
--   are now that it was derived again; all other rows speak of the runs as they are now.
-- unit: endpoint (IP, port, domain); the column named so counts hosts (distinct IP)
-- denominator: share_of_before: {there_before} endpoints there before; there now: {there_after}
-- weighting: every endpoint counts once
-- parameter: before = RUN; the earlier run; for one shard of a census, the whole census
-- parameter: after = RUN; the later run
-- parameter: list = no | yes; name the endpoints, one row each
SELECT count(DISTINCT (ip, port, domain)) FILTER (list_contains($before, run_id)) AS there_before,
       count(DISTINCT (ip, port, domain)) FILTER (list_contains($after, run_id)) AS there_after,
       count(DISTINCT ip) FILTER (list_contains($before, run_id)) AS hosts_before,
       count(DISTINCT ip) FILTER (list_contains($after, run_id)) AS hosts_after
FROM observed;

WITH earlier AS (SELECT * FROM observed WHERE list_contains($before, run_id)),
     later AS (SELECT * FROM observed WHERE list_contains($after, run_id)),
     asked_before AS (SELECT ip, port, domain, outcome FROM probes WHERE list_contains($before, run_id)),
     asked_after AS (SELECT ip, port, domain, outcome FROM probes WHERE list_contains($after, run_id)),
     paired AS (
       SELECT ip, port, domain,
              e.run_id IS NOT NULL AS there_before,
              l.run_id IS NOT NULL AS there_after,
              p.outcome AS outcome_before,
              q.outcome AS outcome_after,
              coalesce(l.server, e.server) AS server,
              concat_ws(' + ',
                CASE WHEN e.server <> l.server THEN 'server' END,
                CASE WHEN e.server_version <> l.server_version THEN 'version' END,
                CASE WHEN e.inventory_hash <> l.inventory_hash THEN 'inventory' END) AS changes,
              e.inventory_hash IS NULL OR l.inventory_hash IS NULL AS inventory_unknown
       FROM earlier e
       FULL JOIN later l USING (ip, port, domain)
       LEFT JOIN asked_before p USING (ip, port, domain)
       LEFT JOIN asked_after q USING (ip, port, domain)
     ),
     judged AS (
       SELECT *,
              CASE WHEN there_before AND there_after THEN CASE WHEN changes <> '' THEN 'changed' ELSE 'same' END
                   WHEN there_before THEN CASE WHEN outcome_after IS NULL THEN 'not asked again' ELSE 'gone' END
                   ELSE CASE WHEN outcome_before IS NULL THEN 'not asked before' ELSE 'appeared' END END AS kind
       FROM paired
     ),
     was AS (
       SELECT * FROM hosts_as_published
       WHERE list_contains($before, run_id) OR list_contains($after, run_id)
     ),
     concluded AS (
       SELECT ip, port, domain,
              coalesce(o.server, w.server) AS server,
              concat(CASE WHEN list_contains($before, run_id) THEN 'before: ' ELSE 'after: ' END,
                CASE WHEN w.server IS NULL THEN 'an AI server only now' WHEN o.server IS NULL THEN 'no AI server any more' END,
                concat_ws(' + ',
                  CASE WHEN w.server <> o.server THEN 'server' END,
                  CASE WHEN w.server = o.server AND w.server_version IS DISTINCT FROM o.server_version THEN 'version' END,
                  CASE WHEN w.inventory_hash <> o.inventory_hash THEN 'inventory' END,
                  CASE WHEN w.families <> o.families OR w.lineages <> o.lineages THEN 'families' END,
                  CASE WHEN w.suspect <> o.suspect THEN 'doubt' END)) AS told_changes,
              CASE WHEN told_changes IN ('before: ', 'after: ') THEN '' ELSE told_changes END AS changes
       FROM was w
       FULL JOIN (SELECT * FROM observed WHERE list_contains($before, run_id) OR list_contains($after, run_id)) o
         USING (run_id, ip, port, domain)
       WHERE o.server IS NOT NULL
          OR ($suspects <> 'only' AND (run_id, ip, port, domain) NOT IN (SELECT (run_id, ip, port, domain) FROM hosts))
     ),
     told AS (
       SELECT kind, server, ip, there_before,
              CASE kind WHEN 'changed' THEN changes
                        WHEN 'same' THEN CASE WHEN inventory_unknown THEN 'inventory not comparable' ELSE 'nothing differs' END
                        WHEN 'gone' THEN CASE outcome_after WHEN 'success' THEN 'answers, no AI server' ELSE outcome_after END
                        WHEN 'appeared' THEN CASE outcome_before WHEN 'success' THEN 'answered, no AI server' ELSE outcome_before END
                        ELSE 'absence says nothing' END AS reason,
              CASE WHEN $list = 'no' THEN 'all'
                   ELSE concat(CASE WHEN contains(ip, ':') THEN '[' || ip || ']' ELSE ip END, ':', port,
                               CASE WHEN domain <> '' THEN ' ' || domain ELSE '' END) END AS endpoint
       FROM judged
       UNION ALL
       SELECT 'rules' AS kind, server, ip, false AS there_before, changes AS reason,
              CASE WHEN $list = 'no' THEN 'all'
                   ELSE concat(CASE WHEN contains(ip, ':') THEN '[' || ip || ']' ELSE ip END, ':', port,
                               CASE WHEN domain <> '' THEN ' ' || domain ELSE '' END) END AS endpoint
       FROM concluded
       WHERE changes <> ''
     )
SELECT kind,
       reason,
       server,
       endpoint,
       count(*) AS endpoints,
       count(DISTINCT ip) AS hosts,
       CASE WHEN any_value(there_before)
            THEN count(*) / (SELECT count(*) FROM paired WHERE there_before) END AS share_of_before
FROM told
GROUP BY kind, reason, server, endpoint
ORDER BY list_position(['appeared', 'gone', 'changed', 'same', 'not asked again', 'not asked before', 'rules'], kind),
         endpoints DESC, reason, server, endpoint
