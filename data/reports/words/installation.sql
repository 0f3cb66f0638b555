-- One row per inventory that was seen, by its mark, with the installation it belongs to: inventories that share two marked
-- models or more are one installation, and so are those that a chain of such inventories joins.
WITH RECURSIVE inventory AS (SELECT DISTINCT installation, mark FROM marked),
     linked AS (
       SELECT a.installation AS one, b.installation AS other
       FROM inventory a JOIN inventory b ON a.mark = b.mark AND a.installation <> b.installation
       GROUP BY one, other
       HAVING count(*) >= 2
     ),
     joined(inventory, belongs) USING KEY (inventory) AS (
       SELECT DISTINCT installation, installation FROM inventory
       UNION
       SELECT k.inventory, min(j.belongs)
       FROM joined j
       JOIN linked l ON j.inventory = l.one
       JOIN recurring.joined k ON k.inventory = l.other
       WHERE j.belongs < k.belongs
       GROUP BY k.inventory
     )
SELECT inventory AS installation, belongs FROM joined
