-- F5: models in a list
-- definition: mean length of the lists of models read, by month of observation; empty lists count as 0, unread ones
--   do not count. The headline is the mean from September of the first year on.
-- weighting: observations
-- row:  ; models per observation, September to December ; 4 ; models ; lists read
-- row: march ; models per observation, first month ; 3 ; models ; lists read
-- row: hosts ; mean over hosts of the mean length of their lists ; - ; models ; hosts ; variant
-- row: month_1 ; models per observation, month 1 of the census ; - ; models ; lists read
-- row: month_2 ; models per observation, month 2 of the census ; - ; models ; lists read
-- row: month_3 ; models per observation, month 3 of the census ; - ; models ; lists read
-- row: month_4 ; models per observation, month 4 of the census ; - ; models ; lists read
-- row: month_5 ; models per observation, month 5 of the census ; - ; models ; lists read
-- row: month_6 ; models per observation, month 6 of the census ; - ; models ; lists read
-- row: month_7 ; models per observation, month 7 of the census ; - ; models ; lists read
-- row: month_8 ; models per observation, month 8 of the census ; - ; models ; lists read
-- row: month_9 ; models per observation, month 9 of the census ; - ; models ; lists read
-- row: month_10 ; models per observation, month 10 of the census ; - ; models ; lists read
-- row: month_11 ; models per observation, month 11 of the census ; - ; models ; lists read
-- row: month_12 ; models per observation, month 12 of the census ; - ; models ; lists read
WITH monthly AS (
       SELECT month, sum(models_listed) AS models, sum(lists_read) AS lists, row_number() OVER (ORDER BY month) AS nth
       FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server GROUP BY month
     )
SELECT '' AS part, sum(models) / nullif(sum(lists), 0) AS value, sum(lists) AS denominator FROM monthly 
WHERE month >= (SELECT make_date(year(min(month)), 9, 1) FROM monthly)
UNION ALL SELECT 'march', models / nullif(lists, 0), lists FROM monthly WHERE nth = 1
UNION ALL SELECT 'hosts', avg(models_listed / nullif(lists_read, 0)), count(*) FROM host_life WHERE lists_read > 0
UNION ALL SELECT 'month_' || nth, models / nullif(lists, 0), lists FROM monthly WHERE nth <= 12
