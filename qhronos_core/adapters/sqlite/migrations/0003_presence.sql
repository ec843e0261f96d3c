-- Which WebSocket clients are connected to which node: a hint that ages, so that a node leaves to another what it has.

CREATE TABLE presence (
  node TEXT NOT NULL,
  client_name TEXT NOT NULL,
  seen_at INTEGER NOT NULL,
  PRIMARY KEY (node, client_name)
) STRICT, WITHOUT ROWID;
