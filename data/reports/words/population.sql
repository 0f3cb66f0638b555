-- One row: how many hosts there are, how many of them are empty (list no model), and of how many no list was read.
SELECT count(*) AS hosts,
       count(*) FILTER (n_models = 0) AS empty_hosts,
       count(*) FILTER (n_models IS NULL) AS unread_hosts,
       empty_hosts / nullif(hosts, 0) AS empty_share
FROM host
