-- One row per host with a known family: how many families it has. A host is multi-family with two or more.
SELECT ip, count(*) AS families FROM host_family GROUP BY ip
