-- The country of the laboratory a declared architecture is named for: one row per declared family; null is unknown.
-- Architectures that everybody trains (bert, gpt2, starcoder, t5) and those whose laboratory has no one seat are unknown.
-- An architecture is not a brand: much of llama and qwen2 was published by others.
SELECT DISTINCT declared_family,
       CASE
         WHEN regexp_matches(declared_family, '^(qwen|deepseek|chatglm|glm|baichuan|internlm|minicpm|hunyuan|hy_v|ernie|kimi'
              || '|bailingmoe|dots1|mimo|minimax|seed_oss|step35|orion|xverse|codeshell|paddleocr|pangu|cogvlm|llada)') THEN 'CN'
         WHEN regexp_matches(declared_family, '^(llama|mllama|gemma|phi|granite|gpt-?oss|olmo|nemotron|grok|dbrx|mpt$|arctic$'
              || '|lfm2|nomic-bert|arcee$|afmoe$|openelm)') THEN 'US'
         WHEN regexp_matches(declared_family, '^mistral') THEN 'FR'
         WHEN regexp_matches(declared_family, '^(falcon|jais)') THEN 'AE'
         WHEN regexp_matches(declared_family, '^(command-r|cohere2)') THEN 'CA'
         WHEN regexp_matches(declared_family, '^(exaone|solar)') THEN 'KR'
         WHEN regexp_matches(declared_family, '^plamo') THEN 'JP'
         WHEN regexp_matches(declared_family, '^stablelm') THEN 'GB'
         WHEN regexp_matches(declared_family, '^jamba') THEN 'IL'
         WHEN regexp_matches(declared_family, '^apertus') THEN 'CH'
       END AS country
FROM listed
WHERE declared_family <> ''
