-- How far do suspects, definitions and missing days move each figure?
-- method: every figure of the study; the same without suspect hosts; the range of its variants, which define it otherwise; and the same when
--   every tenth scan day is missing (1 of 10 left out, from the fifth on). Without a day, what was seen on it alone is not known: hosts
--   of that day are gone, and observations of a month shrink with its days; what a host listed is not taken back.
-- rows: missing
SELECT scanned AS day FROM (SELECT scanned, row_number() OVER (ORDER BY scanned) AS nth FROM scan_day) WHERE nth % 10 = 5 ORDER BY day
