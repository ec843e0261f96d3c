-- Which WebSocket clients are connected to which node: a hint that ages, so that a node leaves to another what it has.

CREATE TABLE presence (
    node         text NOT NULL,
    client_name  text NOT NULL,
    seen_at      timestamptz NOT NULL,
    PRIMARY KEY (node, client_name)
);
