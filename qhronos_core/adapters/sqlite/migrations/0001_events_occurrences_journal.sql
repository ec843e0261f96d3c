-- Ids are BLOB(16); instants are INTEGER microseconds since 1970 (UTC); a value with structure is JSON text.
-- No foreign keys between events and occurrences: retention removes them at different times.

CREATE TABLE store_meta (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  id BLOB NOT NULL,
  journal_epoch BLOB NOT NULL,
  journal_trimmed_to INTEGER NOT NULL DEFAULT 0,  -- the last position retention removed
  at_rest_key_id TEXT,
  created_at INTEGER NOT NULL,
  looked_at INTEGER NOT NULL,  -- when a node last looked at what is due
  gap_since INTEGER,           -- the last time in which none did
  gap_until INTEGER,
  zones_version TEXT           -- of the time zones that planned rows were computed by
) STRICT;

CREATE TABLE events (
  id BLOB NOT NULL PRIMARY KEY,
  created_by TEXT NOT NULL,
  created_jti BLOB,
  caused_by BLOB,
  chain_depth INTEGER NOT NULL,
  runs_per_day INTEGER NOT NULL,
  key TEXT,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  schedule TEXT NOT NULL,
  timezone TEXT NOT NULL,
  anchor_at INTEGER NOT NULL,
  start_time INTEGER,
  end_time INTEGER,
  max_occurrences INTEGER,
  exclusions TEXT NOT NULL,
  action_type TEXT NOT NULL,
  action TEXT NOT NULL,
  secrets BLOB,                -- sealed: opened only by the vault
  hmac_secret_set INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  tags TEXT NOT NULL,          -- in the order given; event_tags and event_labels are for finding
  labels TEXT NOT NULL,
  policies TEXT NOT NULL,
  likeness BLOB NOT NULL,      -- equal for the same schedule, zone and action
  version INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'inactive', 'deleted')),
  paused_at INTEGER,
  paused_until INTEGER,
  paused_reason TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  deleted_at INTEGER
) STRICT;

CREATE UNIQUE INDEX events_key_idx ON events (key, created_by) WHERE key IS NOT NULL AND status <> 'deleted';
CREATE INDEX events_newest_idx ON events (created_at, id);
CREATE INDEX events_creator_idx ON events (created_by, likeness) WHERE status <> 'deleted';
CREATE INDEX events_token_idx ON events (created_jti) WHERE created_jti IS NOT NULL AND status <> 'deleted';
CREATE INDEX events_resume_idx ON events (paused_until) WHERE status = 'paused' AND paused_until IS NOT NULL;
CREATE INDEX events_deleted_idx ON events (deleted_at) WHERE status = 'deleted';

-- Columns in the order of the key: SQLite 3.40 else calls a sound table damaged (quick_check, "NULL value").
CREATE TABLE event_tags (event_id BLOB NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (event_id, tag)) STRICT, WITHOUT ROWID;
CREATE INDEX event_tags_tag_idx ON event_tags (tag);
CREATE TABLE event_labels (event_id BLOB NOT NULL, label TEXT NOT NULL, PRIMARY KEY (event_id, label)) STRICT, WITHOUT ROWID;
CREATE INDEX event_labels_label_idx ON event_labels (label);

CREATE TABLE occurrences (
  id BLOB NOT NULL PRIMARY KEY,  -- derived from (event_id, scheduled_at)
  event_id BLOB NOT NULL,
  scheduled_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  round_began_at INTEGER NOT NULL,
  due_at INTEGER,                -- when a node must look next; NULL: finished, held, or an inbox item free to take
  cause TEXT NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('pending', 'dispatching', 'dispatched', 'completed', 'failed', 'missed', 'cancelled')),
  advances INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  attempts_made INTEGER NOT NULL,
  attempts_before INTEGER NOT NULL,
  round INTEGER NOT NULL,
  event_version INTEGER NOT NULL,
  held TEXT,
  inbox_at INTEGER,
  lease_until INTEGER,
  node TEXT,
  holder TEXT,
  claimed_at INTEGER,
  missed INTEGER,
  missed_since INTEGER,
  reason TEXT,
  note TEXT,
  acknowledged_at INTEGER,
  finished_at INTEGER,
  UNIQUE (event_id, scheduled_at)
) STRICT;

-- No `state` here: a lapsed lease is taken over through the same index, and a claim changes no index but the third.
CREATE INDEX occurrences_due_idx ON occurrences (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX occurrences_inbox_idx ON occurrences (inbox_at) WHERE inbox_at IS NOT NULL;
CREATE INDEX occurrences_unfinished_idx ON occurrences (event_id, scheduled_at)
  WHERE state IN ('pending', 'dispatching', 'dispatched');
CREATE INDEX occurrences_listed_idx ON occurrences (scheduled_at, id);
CREATE INDEX occurrences_finished_idx ON occurrences (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE attempts (
  occurrence_id BLOB NOT NULL,
  number INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  status_code INTEGER,
  error TEXT,
  duration_ms INTEGER,
  retry_at INTEGER,
  destination TEXT,
  response BLOB,
  node TEXT,
  PRIMARY KEY (occurrence_id, number)
) STRICT;
CREATE INDEX attempts_finished_idx ON attempts (finished_at);

-- One writer at a time, and AUTOINCREMENT: the order of positions is the order of commits.
CREATE TABLE journal (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  event_id BLOB,
  occurrence_id BLOB,
  actor TEXT,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX journal_actor_idx ON journal (position) WHERE actor IS NOT NULL;

CREATE TABLE tokens (
  jti BLOB NOT NULL PRIMARY KEY,
  sub TEXT NOT NULL,
  access TEXT NOT NULL,
  scope TEXT NOT NULL,
  issued_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT;
CREATE INDEX tokens_newest_idx ON tokens (issued_at, jti);

CREATE TABLE revocations (
  id BLOB NOT NULL PRIMARY KEY,
  created_at INTEGER NOT NULL,
  jti BLOB,
  sub TEXT,
  issued_before INTEGER
) STRICT;

CREATE TABLE idempotency (
  principal TEXT NOT NULL,
  path TEXT NOT NULL,
  key TEXT NOT NULL,
  body_hash BLOB NOT NULL,
  status INTEGER NOT NULL,
  answer TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (principal, path, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry_idx ON idempotency (expires_at);
