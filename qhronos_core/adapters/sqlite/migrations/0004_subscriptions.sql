-- Webhook subscriptions of MCP Events. Ended ones stay a day as tombstones, without URL and secret.

CREATE TABLE subscriptions (
  id TEXT NOT NULL PRIMARY KEY,     -- a digest of the key: owner, url, topic and arguments
  owner TEXT NOT NULL,
  principal TEXT NOT NULL,          -- whose rights are looked at before each delivery
  url TEXT NOT NULL,
  topic TEXT NOT NULL,
  arguments TEXT NOT NULL,
  secrets BLOB NOT NULL,            -- sealed, bound to the id
  confirmed_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  verified_until INTEGER NOT NULL,
  epoch BLOB NOT NULL,              -- with position: everything up to here was accepted or given up
  position INTEGER NOT NULL,
  next_at INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  lease_until INTEGER,
  last_delivery_at INTEGER,
  last_error TEXT,
  failed_since INTEGER,
  ended_at INTEGER
) STRICT;

CREATE INDEX subscriptions_owner_idx ON subscriptions (owner) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_due_idx ON subscriptions (next_at) WHERE ended_at IS NULL;
