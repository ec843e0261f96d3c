-- Waits that outlive their request: MCP tasks. A row, so any node answers and a restart changes nothing.

CREATE TABLE waits (
    id              uuid PRIMARY KEY,
    holder          text NOT NULL,         -- whose claims it makes; nobody else may look
    query           text NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    ends_at         timestamptz NOT NULL,
    state           text NOT NULL CHECK (state IN ('working', 'completed', 'cancelled')),
    occurrence_ids  uuid[] NOT NULL,       -- claimed for it, once
    answer          text                   -- what was told then, and is told again
);
CREATE INDEX waits_working_idx ON waits (holder) WHERE state = 'working';
CREATE INDEX waits_end_idx ON waits (ends_at);
