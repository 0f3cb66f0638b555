-- The inventories that were seen, each once: one row per inventory, with the mark of the whole. A summary.
-- merge: any_value(listed), any_value(installation)
SELECT inventory, any_value(listed) AS listed, any_value(installation) AS installation FROM inventoried GROUP BY inventory
