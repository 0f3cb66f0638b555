-- The installation marks of each inventory: one row per mark of an inventory and mark of a model in it. A model's mark is of
-- a file on a disk, known by name, digest and the nanosecond it was written; `installation` is the mark of all of them.
SELECT DISTINCT i.installation, i.mark
FROM (SELECT installation, unnest(marks) AS mark FROM inventories) AS i SEMI JOIN installed USING (installation)
