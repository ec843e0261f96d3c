"""The shapes of the OpenAPI document (JSON Schema 2020-12). What they say is what `views` shows and `draft` accepts."""

from typing import Any, Final

Schema = dict[str, Any]

# --- words --------------------------------------------------------------------------------------------

UUID: Final[Schema] = {"type": "string", "format": "uuid"}
INSTANT: Final[Schema] = {"type": "string", "format": "date-time", "description": "RFC 3339; answers are UTC with `Z`."}
DURATION: Final[Schema] = {"type": "string", "examples": ["90s", "15m", "1h30m", "P1D"]}
TEXT: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
FLAG: Final[Schema] = {"type": "boolean"}

EVENT_STATUS: Final = ("active", "paused", "inactive", "deleted")
STATES: Final = ("pending", "dispatching", "dispatched", "completed", "failed", "missed", "cancelled")
REASONS: Final = (
    "exhausted",
    "gone",
    "expired",
    "ack_failed",
    "overlap",
    "coalesced",
    "too_many",
    "catch_up_none",
    "skipped",
    "paused",
    "replanned",
    "deleted",
    "no_client",
)


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(kind := schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def array_of(schema: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": schema, **more}


def words(*known: str) -> Schema:
    """A parameter of any of these words, with commas or repeated; empty ones say nothing."""
    one = "|".join(known)
    return array_of({"type": "string", "pattern": f"^,*(({one})(,+({one}))*,*)?$"})


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None, **more: Any) -> Schema:
    """An object of an answer: members may be added to it later, and a client must ignore those it does not know."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}, **more}


def listing(item: str) -> Schema:
    """The three forms of a list (rest.md §5)."""
    return {
        "oneOf": [
            array_of(ref(item), maxItems=1000),
            record(
                {
                    "data": array_of(ref(item), maxItems=100),
                    "pagination": record(
                        {
                            "page": {"type": "integer", "minimum": 1},
                            "limit": {"type": "integer", "minimum": 1, "maximum": 100},
                            "total": COUNT,
                        }
                    ),
                }
            ),
            record({"data": array_of(ref(item), maxItems=100), "next_cursor": maybe(TEXT)}),
        ]
    }


# --- what a caller writes -----------------------------------------------------------------------------

_NAME: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 200}
_TAG: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[^,]+$"}
_KEY: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9._:/-]{1,100}$"}
_SECRET: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 256, "writeOnly": True}
_URL: Final[Schema] = {"type": "string", "format": "uri", "maxLength": 2048}
_CLIENT: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}

_SCHEDULE: Final[Schema] = {
    "description": (
        "Cron (five fields, or an alias), an interval (`every 15m`, `PT15M`), a delay (`in 2 hours`), an instant,"
        " an iCalendar `RRULE:`, a fixed English phrase, or the later dialect's object."
    ),
    "oneOf": [
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 512,
            "examples": ["0 9 * * 1-5", "every 15m", "tomorrow 09:00", "RRULE:FREQ=MONTHLY;BYDAY=-1FR"],
        },
        {
            "type": "object",
            "required": ["frequency"],
            "additionalProperties": False,
            "properties": {
                "frequency": {
                    "type": "string",
                    "enum": ["minutely", "hourly", "daily", "weekly", "monthly", "yearly"],
                },
                "interval": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1},
                "by_day": array_of({"type": "string", "enum": ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]}),
                "by_month_day": array_of({"type": "integer", "minimum": -31, "maximum": 31}),
                "by_month": array_of({"type": "integer", "minimum": 1, "maximum": 12}),
                "count": {"type": "integer", "minimum": 1, "maximum": 100_000},
                "until": INSTANT,
            },
        },
    ],
}


def _typed(kind: str, params: Schema, *, required: bool = True) -> Schema:
    return {
        "type": "object",
        "required": ["type", "params"] if required else ["type"],
        "additionalProperties": False,
        "properties": {"type": {"type": "string", "const": kind}, "params": params},
    }


def _params(required: list[str], properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


_TIMEOUT: Final[Schema] = {**DURATION, "description": "1 s to 30 s; default `15s`.", "examples": ["15s"]}

_ACTION: Final[Schema] = {
    "description": "Where an occurrence goes.",
    "oneOf": [
        _typed("webhook", _params(["url"], {"url": _URL, "timeout": _TIMEOUT})),
        _typed(
            "apicall",
            _params(
                ["url"],
                {
                    "method": {"type": "string", "enum": ["GET", "POST", "PUT", "PATCH", "DELETE"], "default": "POST"},
                    "url": _URL,
                    "headers": {"type": "object", "additionalProperties": TEXT},
                    "secret_headers": array_of(TEXT),
                    "body": {"description": "Text, or JSON."},
                    "timeout": _TIMEOUT,
                },
            ),
        ),
        _typed("websocket", _params(["client_name"], {"client_name": _CLIENT})),
        _typed("inbox", _params([], {}), required=False),
    ],
}

_RETRY: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "max_attempts": {"type": "integer", "minimum": 1, "maximum": 20, "default": 8},
        "delays": array_of(DURATION, minItems=1),
    },
}

_WRITTEN: Final[dict[str, Schema]] = {
    "name": _NAME,
    "description": {"type": "string", "maxLength": 4000},
    "schedule": _SCHEDULE,
    "timezone": {"type": "string", "maxLength": 64, "description": "An IANA name.", "examples": ["Europe/Paris"]},
    "start_time": INSTANT,
    "end_time": INSTANT,
    "max_occurrences": {"type": "integer", "minimum": 1, "maximum": 100_000},
    "exclusions": array_of(TEXT, maxItems=100, examples=[["2026-12-25", "2026-12-24/2027-01-02"]]),
    "tags": array_of(_TAG, maxItems=64),
    "metadata": {"type": "object", "description": "Up to 64 KiB as JSON."},
    "action": _ACTION,
    "webhook": {
        "type": "string",
        "maxLength": 2048,
        "pattern": "^(https?://|q:).",
        "description": "`https://...`, or `q:<client>` for a websocket.",
    },
    "hmac_secret": _SECRET,
    "catch_up": {"type": "string", "enum": ["one", "all", "none"]},
    "overlap": {"type": "string", "enum": ["allow", "skip", "queue"]},
    "expires_after": DURATION,
    "ack": {"type": "string", "enum": ["none", "required"]},
    "ack_timeout": {**DURATION, "description": "10 s to 7 d; default `15m`.", "examples": ["15m", "P1D"]},
    "retry": _RETRY,
    "status": {"type": "string", "enum": ["active", "paused", "inactive"]},
    "paused_until": INSTANT,
}
_CLEARED_BY_NULL: Final = frozenset(_WRITTEN) - {"name"}

_ECHOED: Final[dict[str, Schema]] = {
    name: {"description": "Answers carry it; sent back, it has no effect."}
    for name in (
        "id",
        "created_at",
        "updated_at",
        "meaning",
        "next_run_at",
        "next_runs",
        "result",
        "warnings",
        "paused_reason",
        "hmac_secret_set",
        "created_by",
        "caused_by",
    )
}

_AS_SHOWN: Final[dict[str, Schema]] = {
    name: maybe(schema) if name in _CLEARED_BY_NULL else schema for name, schema in _WRITTEN.items()
}

NEW_EVENT: Final[Schema] = {
    "type": "object",
    "required": ["name"],
    "anyOf": [{"required": ["schedule"]}, {"required": ["start_time"]}],
    "additionalProperties": False,
    "properties": {**_AS_SHOWN, "key": maybe(_KEY), **_ECHOED},
}
EVENT_CHANGES: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **_AS_SHOWN,
        "key": maybe({**_KEY, "description": "Fixed after creation."}),
        "skip_next": {"type": "boolean", "description": "Cancel the next occurrence."},
        "snooze": {"type": "string", "description": "Move the next occurrence later: a duration, or an instant."},
        **_ECHOED,
    },
}
NEW_TOKEN: Final[Schema] = {
    "type": "object",
    "required": ["sub", "access"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["jwt", None]},
        "sub": {"type": "string", "minLength": 1, "maxLength": 128},
        "access": {"type": "string", "enum": ["read", "write", "read_write", "admin"]},
        "scope": maybe(
            array_of({"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9._@-]{1,128}$"}, maxItems=100)
        ),
        "expires_at": maybe({**INSTANT, "description": "In the future; default one hour ahead."}),
    },
}
ACKNOWLEDGEMENT: Final[Schema] = {
    "type": "object",
    "required": ["outcome"],
    "additionalProperties": False,
    "properties": {
        "outcome": {"type": "string", "enum": ["done", "failed", "later"]},
        "delay": maybe({**DURATION, "description": "With `later`: default `5m`, at most `7d`.", "examples": ["5m"]}),
        "note": maybe({"type": "string", "maxLength": 500}),
    },
}
NOTHING: Final[Schema] = {"type": "object", "additionalProperties": False, "maxProperties": 0}

# --- what is answered ---------------------------------------------------------------------------------

RUN: Final = record(
    {"at": INSTANT, "local": TEXT, "weekday": TEXT, "note": maybe({**TEXT, "examples": ["shifted", "excluded"]})}
)

EVENT: Final = record(
    {
        "name": TEXT,
        "description": TEXT,
        "schedule": {"type": ["string", "object", "null"]},
        "timezone": TEXT,
        "start_time": maybe(INSTANT),
        "end_time": maybe(INSTANT),
        "max_occurrences": maybe(WHOLE),
        "exclusions": array_of(TEXT),
        "tags": array_of(TEXT),
        "metadata": {"type": "object"},
        "action": record(
            {
                "type": {"type": "string", "enum": ["webhook", "apicall", "websocket", "inbox"]},
                "params": {"type": "object"},
            }
        ),
        "key": maybe(TEXT),
        "catch_up": {"type": "string", "enum": ["one", "all", "none"]},
        "overlap": {"type": "string", "enum": ["allow", "skip", "queue"]},
        "expires_after": maybe(DURATION),
        "ack": {"type": "string", "enum": ["none", "required"]},
        "ack_timeout": DURATION,
        "retry": record({"max_attempts": WHOLE, "delays": array_of(DURATION)}),
        "status": {"type": "string", "enum": list(EVENT_STATUS)},
        "paused_until": maybe(INSTANT),
        "paused_reason": maybe(TEXT),
        "hmac_secret_set": FLAG,
        "created_by": TEXT,
        "caused_by": maybe(UUID),
        "created_at": INSTANT,
        "updated_at": INSTANT,
        "meaning": TEXT,
        "next_run_at": maybe(INSTANT),
        "next_runs": array_of(ref("Run"), maxItems=3),
    },
    {
        "id": {**UUID, "description": "Absent in the dry run of a new event."},
        "webhook": TEXT,
        "result": {"type": "string", "enum": ["created", "updated", "unchanged", "preview", "deleted"]},
        "warnings": array_of(TEXT),
        "hmac_secret": {"type": "string", "description": "Made by this call; shown this once."},
    },
)

OCCURRENCE: Final = record(
    {
        "id": UUID,
        "event_id": UUID,
        "scheduled_at": INSTANT,
        "status": {"type": "string", "enum": list(STATES)},
        "cause": {"type": "string", "enum": ["schedule", "trigger"]},
        "due_at": maybe({**INSTANT, "description": "When it is tried next."}),
        "attempts_made": COUNT,
        "reason": maybe({"type": "string", "enum": list(REASONS)}),
        "acknowledged_at": maybe(INSTANT),
        "note": maybe(TEXT),
        "finished_at": maybe(INSTANT),
        "created_at": INSTANT,
        "updated_at": INSTANT,
    },
    {"caught_up": record({"missed": COUNT, "since": maybe(INSTANT)})},
)

ATTEMPT: Final = record(
    {
        "number": {"type": "integer", "minimum": 1},
        "started_at": INSTANT,
        "finished_at": INSTANT,
        "node": maybe(TEXT),
        "destination": maybe(TEXT),
        "outcome": {"type": "string", "enum": ["accepted", "refused", "no_answer", "lease_lost"]},
        "status_code": maybe(WHOLE),
        "error": maybe(TEXT),
        "duration_ms": maybe(COUNT),
        "retry_at": maybe(INSTANT),
    },
    {"response": maybe({**TEXT, "description": "With `include=response`: the first 64 KiB of the answer."})},
)

PREVIEW: Final = record(
    {
        "event_id": UUID,
        "schedule": {"type": ["string", "object", "null"]},
        "meaning": TEXT,
        "timezone": TEXT,
        "now": INSTANT,
        "next": array_of(ref("Run"), maxItems=100),
    }
)

MINTED: Final = record(
    {
        "token": TEXT,
        "type": {"type": "string", "const": "jwt"},
        "sub": TEXT,
        "access": {"type": "string", "enum": ["read", "write", "admin"]},
        "scope": array_of(TEXT),
        "expires_at": INSTANT,
        "jti": UUID,
        "warnings": array_of(TEXT),
    }
)

TOKEN: Final = record(
    {
        "jti": UUID,
        "sub": TEXT,
        "access": {"type": "string", "enum": ["read", "write", "admin"]},
        "scope": array_of(TEXT),
        "issued_at": INSTANT,
        "expires_at": INSTANT,
    },
    {"revoked_at": INSTANT},
)

REVOKED: Final = record({"jti": UUID, "revoked_at": INSTANT})

AUDIT: Final = record(
    {
        "at": INSTANT,
        "actor": maybe(TEXT),
        "what": TEXT,
        "allowed": FLAG,
        "event_id": maybe(UUID),
        "occurrence_id": maybe(UUID),
        "detail": {"type": "object"},
    }
)

HEALTH: Final = record({"status": {"type": "string", "const": "ok"}})

STATUS: Final = record(
    {
        "status": {"type": "string", "enum": ["ok", "stopping"]},
        "version": TEXT,
        "uptime_seconds": COUNT,
    },
    {
        "now": INSTANT,
        "node": TEXT,
        "nodes": array_of(TEXT),
        "store": {"type": "object"},
        "tzdata": TEXT,
        "due": COUNT,
        "oldest_due_seconds": {"type": "number", "minimum": 0},
        "token_info": record(
            {
                "sub": TEXT,
                "access": {"type": "string", "enum": ["read", "write", "admin", "master"]},
                "scope": array_of(TEXT),
                "jti": maybe(UUID),
                "expires_at": maybe(INSTANT),
            }
        ),
    },
)

PROBLEM: Final = record(
    {
        "error": {**TEXT, "description": "What is wrong, then the next move."},
        "type": {"type": "string", "pattern": "^urn:qhronos:problem:[a-z_]+$"},
        "title": TEXT,
        "status": WHOLE,
        "detail": TEXT,
        "code": TEXT,
        "now": INSTANT,
    },
    {
        "errors": array_of(
            record(
                {
                    "field": TEXT,
                    "code": TEXT,
                    "got": {"description": "Your own value, at most 200 characters of it; null for none."},
                    "why": TEXT,
                    "fix": array_of({"type": "object", "description": "Merge it into the same request: accepted."}),
                },
            ),
            maxItems=10,
        )
    },
    description="An error: the seed's `error` beside RFC 9457.",
)

COMPONENTS: Final[dict[str, Schema]] = {
    "NewEvent": NEW_EVENT,
    "EventChanges": EVENT_CHANGES,
    "Event": EVENT,
    "Run": RUN,
    "Preview": PREVIEW,
    "Occurrence": OCCURRENCE,
    "Attempt": ATTEMPT,
    "Acknowledgement": ACKNOWLEDGEMENT,
    "NewToken": NEW_TOKEN,
    "MintedToken": MINTED,
    "Token": TOKEN,
    "RevokedToken": REVOKED,
    "AuditEntry": AUDIT,
    "Nothing": NOTHING,
    "Health": HEALTH,
    "Status": STATUS,
    "Problem": PROBLEM,
}
