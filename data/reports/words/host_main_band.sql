-- The band with most of a host's models, the larger one of equals: one row per host with a known size.
SELECT ip, arg_max(low, 100 * models + low) AS low FROM host_band GROUP BY ip
