-- G5: Beijing, of hosts in China
-- definition: hosts whose address the geolocation database puts there, at the latest observation; hosts of unknown
--   region stay in the denominator. Clouds are placed where they are registered as often as where they stand.
-- row:  ; Beijing, of hosts in China ; 30 ; % ; hosts of the country
SELECT '' AS part, 100 * count(*) FILTER (region = 'Beijing') / nullif(count(*), 0) AS value, count(*) AS denominator FROM host_life WHERE country = 'CN'
