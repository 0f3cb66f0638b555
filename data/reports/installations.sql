-- How many installations stand behind the addresses?
-- definition: an installation is a set of model files on one disk, or clones of it: inventories that share two models or more
--   of equal name, digest and modified_at (to the nanosecond) are one, and so is an inventory that is equal as a whole. one
--   address: never seen elsewhere. moved: on several addresses, never on two on one day: churn, which counts of hosts take for
--   new hosts. together: on several addresses of one AS on one day. fleet: on several addresses and in two ASes or more on one day: clones, or
--   proxies of one server. Only models that a server serves itself and whose time it states can tell (Ollama's), and only runs
--   that were marked with the same secret.
-- unit: installation; the columns named so count hosts (distinct IP; one with several installations counts for each)
-- denominator: share_of_installations: {installations} installations; share_of_hosts: {hosts} hosts with one, of {all_hosts}
-- weighting: every installation counts once, however often and on however many addresses it was seen
SELECT (SELECT count(DISTINCT belongs) FROM installation) AS installations,
       (SELECT count(DISTINCT ip) FROM installed JOIN installation USING (installation)) AS hosts,
       (SELECT count(*) FROM hosts_asked_for) AS all_hosts;

WITH sighted AS (
       SELECT i.belongs, s.ip, s.asn, s.month, bit_or(s.days_seen) AS days_seen
       FROM installed s JOIN installation i USING (installation) GROUP BY ALL
     ),
     seen AS (SELECT belongs, count(DISTINCT ip) AS hosts FROM sighted GROUP BY belongs),
     daily AS (
       SELECT belongs, month, bit, count(DISTINCT ip) AS addresses, count(DISTINCT asn) AS ases
       FROM sighted SEMI JOIN (SELECT belongs FROM seen WHERE hosts >= 2) several USING (belongs), range(31) AS bits(bit)
       WHERE days_seen & (1 << bit)::INTEGER <> 0
       GROUP BY belongs, month, bit
     ),
     judged AS (
       SELECT belongs,
              CASE WHEN any_value(seen.hosts) = 1 THEN 'one address'
                   WHEN max(ases) >= 2 THEN 'fleet'
                   WHEN max(addresses) >= 2 THEN 'together'
                   ELSE 'moved' END AS kind,
              any_value(seen.hosts) AS hosts
       FROM seen LEFT JOIN daily USING (belongs)
       GROUP BY belongs
     )
SELECT kind,
       count(*) AS installations,
       count(*) / (SELECT count(*) FROM judged) AS share_of_installations,
       (SELECT count(DISTINCT s.ip) FROM sighted s JOIN judged k USING (belongs) WHERE k.kind = j.kind) AS hosts,
       (SELECT count(DISTINCT s.ip) FROM sighted s JOIN judged k USING (belongs) WHERE k.kind = j.kind)
         / (SELECT count(DISTINCT s.ip) FROM sighted s) AS share_of_hosts,
       sum(hosts) / count(*) AS hosts_per_installation,
       max(hosts) AS most_hosts
FROM judged j
GROUP BY kind
ORDER BY list_position(['one address', 'moved', 'together', 'fleet'], kind)
