-- G6: Shanghai and Guangdong, of hosts in China
-- definition: hosts whose address the geolocation database puts there, at the latest observation; hosts of unknown
--   region stay in the denominator. Clouds are placed where they are registered as often as where they stand.
-- row:  ; Shanghai and Guangdong, of hosts in China ; 21 ; % ; hosts of the country
SELECT '' AS part, 100 * count(*) FILTER (region IN ('Shanghai', 'Guangdong')) / nullif(count(*), 0) AS value, count(*) AS denominator FROM host_life WHERE country = 'CN'
