-- How many declared families each host with a known one had in its life, and whether llama and qwen2 are among them.
SELECT ip, count(*) AS families, bool_or(family = 'llama') AS llama, bool_or(family = 'qwen2') AS qwen2
FROM host_architecture GROUP BY ip
