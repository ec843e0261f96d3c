-- Webhook subscriptions of MCP Events. Ended ones stay a day as tombstones, without URL and secret.

CREATE TABLE subscriptions (
    id                text PRIMARY KEY,      -- a digest of the key: owner, url, topic and arguments
    owner             text NOT NULL,
    principal         text NOT NULL,         -- whose rights are looked at before each delivery
    url               text NOT NULL,
    topic             text NOT NULL,
    arguments         text NOT NULL,
    secrets           bytea NOT NULL,        -- sealed, bound to the id
    confirmed_at      timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL,
    verified_until    timestamptz NOT NULL,
    epoch             uuid NOT NULL,         -- with position: everything up to here was accepted or given up
    position          bigint NOT NULL,
    next_at           timestamptz NOT NULL,
    attempts          int NOT NULL,
    fence             bigint NOT NULL,
    lease_until       timestamptz,
    last_delivery_at  timestamptz,
    last_error        text,
    failed_since      timestamptz,
    ended_at          timestamptz
);
CREATE INDEX subscriptions_owner_idx ON subscriptions (owner) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_due_idx ON subscriptions (next_at) WHERE ended_at IS NULL;
