-- When each endpoint was seen, by month: one row per endpoint, server program and month. A summary.
-- days_seen has bit d - 1 set for day d of the month (UTC); observations counts runs; the rest are sums over them.
-- merge: bit_or(days_seen), sum(observations), sum(lists_read), sum(models_listed), sum(running_known), sum(observations_running), sum(models_running), max(most_models), min(first_seen), max(last_seen)
SELECT ip, port, domain, server, date_trunc('month', observed_at)::DATE AS month,
       bit_or((1 << (day(observed_at) - 1))::INTEGER) AS days_seen,
       count(*)::BIGINT AS observations,
       count(n_models)::BIGINT AS lists_read,
       coalesce(sum(n_models), 0)::BIGINT AS models_listed,
       count(n_running)::BIGINT AS running_known,
       count(*) FILTER (n_running > 0)::BIGINT AS observations_running,
       coalesce(sum(n_running), 0)::BIGINT AS models_running,
       max(n_models) AS most_models,
       min(observed_at) AS first_seen,
       max(observed_at) AS last_seen
FROM hosts
GROUP BY ip, port, domain, server, month
