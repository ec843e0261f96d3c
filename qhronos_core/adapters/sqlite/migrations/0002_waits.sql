-- Waits that outlive their request: MCP tasks. A row, so any node answers and a restart changes nothing.

CREATE TABLE waits (
  id BLOB NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,           -- whose claims it makes; nobody else may look
  query TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  ends_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('working', 'completed', 'cancelled')),
  occurrence_ids TEXT NOT NULL,   -- claimed for it, once
  answer TEXT                     -- what was told then, and is told again
) STRICT;

CREATE INDEX waits_working_idx ON waits (holder) WHERE state = 'working';
CREATE INDEX waits_end_idx ON waits (ends_at);
