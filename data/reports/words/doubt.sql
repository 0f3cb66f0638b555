-- The strongest doubt in each host in any run: one row per host.
SELECT ip, max(suspect) AS score FROM observed GROUP BY ip
