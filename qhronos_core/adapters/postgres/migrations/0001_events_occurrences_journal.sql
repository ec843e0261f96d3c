-- Ids are made by the program, instants are UTC, and lists of allowed words are CHECKs: no enum types, no
-- triggers, no extensions. No foreign key joins events and occurrences: retention removes each in its own
-- time, and the schema can be sharded by event.

CREATE TABLE events (
    id             uuid PRIMARY KEY,
    created_by     text NOT NULL,
    name           text NOT NULL,
    schedule       json NOT NULL,              -- json, not jsonb: what was asked is echoed as it was written
    anchor_at      timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    created_jti    uuid,
    caused_by      uuid,
    chain_depth    int NOT NULL,
    runs_per_day   int NOT NULL,
    key            text,
    description    text NOT NULL,
    timezone       text NOT NULL,
    start_time     timestamptz,
    end_time       timestamptz,
    max_occurrences int,
    exclusions     text[] NOT NULL,
    action_type    text NOT NULL,
    action         json NOT NULL,
    secrets        bytea,                      -- sealed before it comes here
    hmac_secret_set boolean NOT NULL,
    metadata       json NOT NULL,
    tags           text[] NOT NULL,
    labels         text[] NOT NULL,
    policies       json NOT NULL,
    version        int NOT NULL,
    status         text NOT NULL CHECK (status IN ('active', 'paused', 'inactive', 'deleted')),
    paused_at      timestamptz,
    paused_until   timestamptz,
    paused_reason  text,
    deleted_at     timestamptz,
    folded         text NOT NULL,              -- name, key and description, case folded: what a text is looked for in
    likeness       bytea NOT NULL              -- a digest of schedule, zone and action
);
CREATE UNIQUE INDEX events_key_idx ON events (created_by, key) WHERE key IS NOT NULL AND status <> 'deleted';
CREATE INDEX events_created_idx ON events (created_at DESC, id DESC);
CREATE INDEX events_creator_idx ON events (created_by) WHERE status <> 'deleted';
CREATE INDEX events_alike_idx ON events (created_by, likeness) WHERE status = 'active';
CREATE INDEX events_token_idx ON events (created_jti) WHERE created_jti IS NOT NULL AND status <> 'deleted';
CREATE INDEX events_resume_idx ON events (paused_until) WHERE paused_until IS NOT NULL AND status = 'paused';
CREATE INDEX events_deleted_idx ON events (deleted_at) WHERE status = 'deleted';
CREATE INDEX events_labels_idx ON events USING gin (labels);
CREATE INDEX events_tags_idx ON events USING gin (tags);

-- Room is left in each page for what claims write, and nothing they change is in an index: a claim is a HOT update.
CREATE TABLE occurrences (
    id             uuid PRIMARY KEY,           -- derived from (event_id, scheduled_at)
    event_id       uuid NOT NULL,
    scheduled_at   timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    round_began_at timestamptz NOT NULL,
    due_at         timestamptz,
    cause          text NOT NULL CHECK (cause IN ('schedule', 'trigger')),
    state          text NOT NULL CHECK (state IN
                       ('pending', 'dispatching', 'dispatched', 'completed', 'failed', 'missed', 'cancelled')),
    advances       boolean NOT NULL,
    ordinal        int NOT NULL,
    fence          int NOT NULL,
    attempts_made  int NOT NULL,
    attempts_before int NOT NULL,
    round          int NOT NULL,
    event_version  int NOT NULL,
    held           text CHECK (held IN ('pause', 'overlap')),
    inbox_at       timestamptz,
    lease_until    timestamptz,
    node           text,
    holder         text,
    claimed_at     timestamptz,
    missed         int,
    missed_since   timestamptz,
    reason         text,
    note           text,
    acknowledged_at timestamptz,
    finished_at    timestamptz,
    unfinished     boolean NOT NULL GENERATED ALWAYS AS (state IN ('pending', 'dispatching', 'dispatched')) STORED,
    CONSTRAINT occurrences_instant_key UNIQUE (event_id, scheduled_at)
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
-- No `state` in a predicate: a claim changes it, and would then write every index.
CREATE INDEX occurrences_due_idx ON occurrences (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX occurrences_open_idx ON occurrences (event_id) WHERE unfinished;
CREATE INDEX occurrences_inbox_idx ON occurrences (inbox_at) WHERE inbox_at IS NOT NULL;
CREATE INDEX occurrences_scheduled_idx ON occurrences (scheduled_at, id);
CREATE INDEX occurrences_finished_idx ON occurrences USING brin (finished_at);  -- for retention: costs writers nothing

CREATE TABLE attempts (
    occurrence_id  uuid NOT NULL,
    number         int NOT NULL,
    started_at     timestamptz NOT NULL,
    finished_at    timestamptz NOT NULL,
    outcome        text NOT NULL,
    status_code    int,
    error          text,
    duration_ms    int,
    retry_at       timestamptz,
    destination    text,
    response       bytea,
    node           text,
    PRIMARY KEY (occurrence_id, number)
);
CREATE INDEX attempts_finished_idx ON attempts USING brin (finished_at);

-- A reader's cursor is safe because the position comes only from this default, one at a time (no cache), after the
-- writer has its lock on the table.
CREATE SEQUENCE journal_position AS bigint CACHE 1;
CREATE TABLE journal (
    position       bigint PRIMARY KEY DEFAULT nextval('journal_position'),
    at             timestamptz NOT NULL,
    kind           text NOT NULL,
    event_id       uuid,
    occurrence_id  uuid,
    actor          text,
    detail         json NOT NULL
);
CREATE INDEX journal_actor_idx ON journal (position) WHERE actor IS NOT NULL;

CREATE TABLE tokens (
    jti            uuid PRIMARY KEY,
    sub            text NOT NULL,
    access         text NOT NULL,
    scope          text[] NOT NULL,
    issued_at      timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    revoked_at     timestamptz
);
CREATE INDEX tokens_issued_idx ON tokens (issued_at DESC, jti DESC);

CREATE TABLE revocations (
    id             uuid PRIMARY KEY,
    created_at     timestamptz NOT NULL,
    jti            uuid,
    sub            text,
    issued_before  timestamptz
);

CREATE TABLE idempotency (
    principal      text NOT NULL,
    path           text NOT NULL,
    key            text NOT NULL,
    body_hash      bytea NOT NULL,
    status         int NOT NULL,
    answer         json NOT NULL,
    expires_at     timestamptz NOT NULL,
    PRIMARY KEY (principal, path, key)
);
CREATE INDEX idempotency_expires_idx ON idempotency (expires_at);

-- Emptied by whatever may lose transactions: a crash, a promoted standby. While its row is the same, an id of a
-- transaction means the same transaction.
CREATE UNLOGGED TABLE server_life (
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    id             uuid NOT NULL DEFAULT gen_random_uuid()
);

CREATE TABLE store_meta (
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    id             uuid NOT NULL DEFAULT gen_random_uuid(),
    journal_epoch  uuid NOT NULL DEFAULT gen_random_uuid(),  -- changed by a restore: old cursors are then known as such
    retired_to     bigint NOT NULL DEFAULT 0,                -- the last journal position that retention removed
    looked_at      timestamptz,                              -- when a node last looked for what is due, or first opened
    gap_since      timestamptz,
    gap_until      timestamptz,
    zones_version  text                                      -- of the time zones that planned rows were computed by
);
INSERT INTO store_meta DEFAULT VALUES;
