-- The latest observation of each endpoint: one row per endpoint. Versions and servers are counted on it.
SELECT * FROM endpoint
QUALIFY row_number() OVER (PARTITION BY ip, port, domain ORDER BY run_id DESC) = 1
