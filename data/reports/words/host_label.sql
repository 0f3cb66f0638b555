-- One row per host and model (name and digest) it served itself, as last listed: what labels of quantization and sizes count.
WITH latest AS (
       SELECT ip, file, arg_max(kind, last_run) AS kind, sum(runs)::BIGINT AS runs
       FROM host_listing JOIN (SELECT kind, file FROM described WHERE NOT remote) AS own USING (kind)
       GROUP BY ip, file
     )
SELECT ip, file, quant, quant_bits, params_b, embeds, system_class AS prompt, runs
FROM latest JOIN described USING (kind, file)
