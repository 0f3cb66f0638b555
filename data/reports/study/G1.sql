-- G1: China
-- definition: hosts whose address the geolocation database puts there, at the latest observation.
-- note: given to the press, as about so much
-- row:  ; China ; 30 ; % ; hosts
SELECT '' AS part, 100 * count(*) FILTER (country = 'CN') / count(*) AS value, count(*) AS denominator FROM host_life
