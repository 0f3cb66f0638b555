-- When each endpoint was asked, by month, whether or not anybody answered: one row per endpoint and month. A summary.
-- merge: bit_or(days_asked), bit_or(days_answered)
SELECT ip, port, domain, date_trunc('month', asked_at)::DATE AS month,
       bit_or((1 << (day(asked_at) - 1))::INTEGER) AS days_asked,
       bit_or(CASE WHEN server IS NULL THEN 0 ELSE 1 << (day(asked_at) - 1) END::INTEGER) AS days_answered
FROM probes
GROUP BY ip, port, domain, month
