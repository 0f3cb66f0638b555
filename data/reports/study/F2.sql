-- F2: fourth and fifth family
-- definition: declared families by hosts, the fourth and the fifth. Models of a cloud and projectors do not count.
-- note: given to the press by a reader of the chart
-- row:  ; fourth and fifth family ; qwen3 nomic-bert ; families ; -
SELECT '' AS part, string_agg(family, ' ' ORDER BY hosts DESC, family) AS value, NULL::BIGINT AS denominator
FROM (SELECT family, count(*) AS hosts FROM host_architecture GROUP BY family ORDER BY hosts DESC, family LIMIT 2 OFFSET 3)
