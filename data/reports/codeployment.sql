-- How often are model families deployed together?
-- definition: two families are deployed together when one host listed models of both, in any run covered; models served
--   by a cloud and projectors do not count. pair_share is the share of multi-family hosts that have both;
--   share_a and share_b are the shares of multi-family hosts that have the one family, whatever else they have: a pair's
--   share is never a family's. expected_hosts is P(a) P(b) N over the N hosts with a known family, were families
--   independent; expected_pair_share is the same over multi-family hosts (it can exceed 100 % where few hosts have two
--   families); lift is hosts / expected_hosts; lift_in_multi_family is P(ab) / (P(a) P(b)) within multi-family
--   hosts. A lift near 1 says the pair is as frequent as its families are.
-- unit: host (distinct IP)
-- denominator: pair_share, share_a, share_b: {multi_family_hosts} hosts with two known families or more; lift:
--   {hosts_with_family} hosts with a known family; of {hosts} hosts in all, empty and unreadable ones included
-- weighting: every host counts once in each of its pairs
-- parameter: by = family_raw | lineage | weights; what a family is: the declared architecture, the brand, or whose pre-training
-- parameter: embeddings = include | exclude; models that only embed or rerank (bert, nomic-bert, role embedding or rerank)
-- parameter: server = any | TEXT; only endpoints of this server program, such as ollama
SELECT population.*,
       known.*,
       multi_family_hosts / nullif(hosts, 0) AS multi_family_share_of_hosts
FROM population,
     (SELECT count(*) AS hosts_with_family, count(*) FILTER (families >= 2) AS multi_family_hosts FROM portfolio) AS known;

WITH known AS (SELECT count(*) AS hosts, count(*) FILTER (families >= 2) AS multi FROM portfolio),
     one AS (
       SELECT family, count(*) AS hosts, count(*) FILTER (families >= 2) AS multi
       FROM host_family JOIN portfolio USING (ip) GROUP BY family
     ),
     pair AS (
       SELECT a.family AS family_a, b.family AS family_b, count(*) AS hosts
       FROM host_family a JOIN host_family b ON a.ip = b.ip AND a.family < b.family
       GROUP BY ALL
     )
SELECT family_a,
       family_b,
       pair.hosts,
       pair.hosts / known.multi AS pair_share,
       a.multi / known.multi AS share_a,
       b.multi / known.multi AS share_b,
       a.hosts * b.hosts / known.hosts AS expected_hosts,
       a.hosts * b.hosts / (known.hosts * known.multi) AS expected_pair_share,
       pair.hosts * known.hosts / (a.hosts * b.hosts) AS lift,
       pair.hosts * known.multi / (a.multi * b.multi) AS lift_in_multi_family
FROM pair, known
JOIN one a ON a.family = family_a
JOIN one b ON b.family = family_b
ORDER BY pair.hosts DESC, family_a, family_b
