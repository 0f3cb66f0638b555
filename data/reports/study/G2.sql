-- G2: United States
-- definition: hosts whose address the geolocation database puts there, at the latest observation.
-- note: given to the press, as about so much
-- row:  ; United States ; 20 ; % ; hosts
SELECT '' AS part, 100 * count(*) FILTER (country = 'US') / count(*) AS value, count(*) AS denominator FROM host_life
