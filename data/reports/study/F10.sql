-- F10: multi-family hosts
-- definition: hosts on which two declared families or more were ever listed. Models of a cloud and projectors do
--   not count.
-- note: published are 40,694 hosts as 52 % of these: 77,512 to 79,017
-- row:  ; multi-family hosts ; 78258 ; hosts ; -
-- row: share ; multi-family hosts, share ; 44.7 ; % ; hosts
-- row: no_embeddings ; … families of embedding models left out ; - ; % ; hosts
-- row: known ; … of hosts with a known family ; - ; % ; hosts with a family
SELECT '' AS part, count(*) FILTER (families >= 2) AS value, NULL::BIGINT AS denominator FROM host_families_count
UNION ALL SELECT 'share', 100 * count(*) FILTER (families >= 2) / (SELECT count(*) FROM host_life), (SELECT count(*) FROM host_life) FROM host_families_count
UNION ALL SELECT 'no_embeddings', 100 * count(*) FILTER (families >= 2) / (SELECT count(*) FROM host_life), (SELECT count(*) FROM host_life) FROM host_families_but_embeddings
UNION ALL SELECT 'known', 100 * count(*) FILTER (families >= 2) / nullif(count(*), 0), count(*) FROM host_families_count
