-- What a creator has under way is counted when another is made: what has ended is no part of it, however much that is.

CREATE INDEX events_live_idx ON events (created_by, status, runs_per_day) WHERE status IN ('active', 'paused');
