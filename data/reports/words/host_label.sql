-- One row per host and model (name and digest) it served itself, as last listed: what labels of quantization and sizes count.
SELECT ip, file, arg_max(quant, last_run) AS quant, arg_max(quant_bits, last_run) AS quant_bits,
       arg_max(params_b, last_run) AS params_b, bool_or(embeds) AS embeds, max(system_class) AS prompt,
       sum(runs)::BIGINT AS runs
FROM host_inventory WHERE NOT remote
GROUP BY ip, file
