-- While more is due than is taken at once, each creator's rows wait in a lane of their own, and the lanes are served in turn.

ALTER TABLE occurrences ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;
CREATE INDEX occurrences_lane_idx ON occurrences (lane, due_at) WHERE due_at IS NOT NULL;
