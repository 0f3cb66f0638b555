-- What was ever listed on each host: one row per host that listed a model. cloud: a model that a cloud serves; uncensored: one
-- whose name or line says so; unguarded: one whose system prompt is of class uncensored.
SELECT ip, bool_or(remote) AS cloud, coalesce(bool_or(uncensored), false) AS uncensored,
       coalesce(bool_or(system_class = 'uncensored'), false) AS unguarded
FROM host_inventory
GROUP BY ip
