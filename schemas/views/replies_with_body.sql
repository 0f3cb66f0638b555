-- Every reply with its body.
--
-- Unit: one row for each reply; the rows of replies, none lost and none added.
-- Columns: all of replies, and body (bytes as sent, up to the body cap; body_sha256 is their hash).
-- Promise: bodies are what strangers sent. Decode with care: try(decode(body)) is null where they are not UTF-8.
SELECT r.*, b.body
FROM replies AS r
LEFT JOIN bodies AS b USING (run_id, body_sha256)
