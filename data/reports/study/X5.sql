-- X5: models of a cloud
-- definition: hosts on which a model was ever listed that a cloud serves.
-- note: another study finds 30 % in 2026
-- row:  ; hosts with a model of a cloud ; - ; % ; hosts
SELECT '' AS part, 100 * count(*) FILTER (cloud) / (SELECT count(*) FROM host_life) AS value, (SELECT count(*) FROM host_life) AS denominator FROM host_trait
