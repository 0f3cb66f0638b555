-- Every model an endpoint listed, with everything that stays while it is listed as one value; kind is its hash.
SELECT run_id, ip, port, domain, position, modified_at, is_running,
       {'name': name, 'digest': digest, 'size_bytes': size_bytes, 'format': format, 'family_raw': family_raw,
        'families_raw': families_raw, 'parameter_size': parameter_size, 'params_b': params_b, 'quantization': quantization,
        'quant': quant, 'quant_bits': quant_bits, 'context_length': context_length, 'n_vocab': n_vocab,
        'capabilities': capabilities, 'is_remote': is_remote, 'remote_model': remote_model, 'remote_host': remote_host,
        'parent': parent, 'owned_by': owned_by, 'brand_family': brand_family, 'generation': generation,
        'base_family': base_family, 'weights_family': weights_family, 'developer': developer,
        'developer_country': developer_country, 'weights_country': weights_country, 'role': role,
        'is_distill': is_distill, 'uncensored': uncensored, 'claimed_brand': claimed_brand,
        'system_class': list_extract(list_filter(extra, lambda e: e.name = 'system_class'), 1).value} AS model,
       hash(model) AS kind
FROM models
