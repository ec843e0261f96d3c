-- How often an inbox item was handed to an agent. A fence counts more than that: a snooze and a pause raise it too.

ALTER TABLE occurrences ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0;

-- What is in the inbox now was counted by its fence until now.
UPDATE occurrences SET deliveries = fence / 2 WHERE inbox_at IS NOT NULL;
