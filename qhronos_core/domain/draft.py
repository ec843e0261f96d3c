"""What a caller asks of an event, read once for both faces: the fields of rest.md §2, the later dialect of §7 included.

    draft = read_fields(given, creating=True)     every fault found, with what to send instead
    changed_fields(draft, event)                  what of it is another value than the event's

A Draft holds normalised values: durations are lengths, instants are in UTC, null has become the default it
stands for. A field that was not given is UNSET. A field sent back as it is shown is no change.
"""

import copy
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from qhronos_core.domain import fields as field_readers
from qhronos_core.domain.access import is_scope
from qhronos_core.domain.errors import Fault, InvalidInputError
from qhronos_core.domain.event import Ack, Action, CatchUp, Event, EventStatus, Overlap, Policies
from qhronos_core.domain.fields import MASK, SCHEDULE_EXAMPLES, Reader, Wrong, webhook_of
from qhronos_core.domain.plain import (
    TEXT_FAULTS,
    bad_text_in,
    fault_in,
    hides,
    json_size,
    printable,
    same,
    without_bad_text,
)
from qhronos_core.domain.retry import RetryPolicy
from qhronos_core.domain.schedule import Timetable, parse_duration, parse_instant, say_instant
from qhronos_core.domain.signature import key_of

SECRET_STRONG: Final = 24  # bytes; a shorter signing secret is accepted with a warning
FAULTS_MOST: Final = 10
FIXES_MOST: Final = 3
_FIX_MOST: Final = 1_024  # bytes of a field that a fix repeats

ANSWER_ONLY: Final = frozenset(
    {
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
    }
)
"""Fields that only answers carry: they may be sent back and have no effect."""

WRITABLE: Final = (
    "name",
    "description",
    "timezone",  # before the instants that are told in it
    "schedule",
    "start_time",
    "end_time",
    "max_occurrences",
    "exclusions",
    "tags",
    "metadata",
    "action",
    "webhook",
    "hmac_secret",
    "key",
    "catch_up",
    "overlap",
    "expires_after",
    "ack",
    "ack_timeout",
    "retry",
    "status",
    "paused_until",
    "skip_next",
    "snooze",
)
"""Every field that a caller may send to some effect, in the order in which they are read."""

_COUNTED_FROM_NOW: Final = re.compile(r"\s*(?:in|today|tomorrow|on)\s", re.IGNORECASE)
_BEGINS_WITH_A_YEAR: Final = re.compile(r"\s*[0-9]{4}-")
_SOME_DAY: Final = datetime(
    2000, 1, 1, tzinfo=UTC
)  # for what a rule says of every day; what depends on now is judged later
_UNKNOWN_FIELD: Final = "unknown_field"
_BAD_TEXT: Final = "bad_text"

_MEANT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("title", "summary", "label"), "name"),
    **dict.fromkeys(("cron", "rrule", "recurrence", "when", "every", "interval", "cron_expression"), "schedule"),
    **dict.fromkeys(("at", "run_at", "scheduled_at", "start"), "start_time"),
    **dict.fromkeys(("end", "until"), "end_time"),
    **dict.fromkeys(("tz", "zone"), "timezone"),
    **dict.fromkeys(("url", "webhook_url", "callback"), "webhook"),
    **dict.fromkeys(("payload", "data", "body"), "metadata"),
    **dict.fromkeys(("labels", "scope", "scopes"), "tags"),
    **dict.fromkeys(("secret", "signing_secret"), "hmac_secret"),
    **dict.fromkeys(("retries", "max_attempts"), "retry"),
    **dict.fromkeys(("count", "max_runs"), "max_occurrences"),
}
"""What others call our fields."""


class Unset(Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence about an accepted request. It never holds event text."""

    code: str
    says: str


@dataclass(frozen=True, slots=True)
class DraftSecrets:
    """What must be seen nowhere. `hmac_secret` None: make a new one. `headers`: secret header values; MASK, the stored one."""

    hmac_secret: str | Unset | None = UNSET
    headers: Mapping[str, str] | Unset = UNSET

    def headers_over(self, before: Mapping[str, str], *, moved: bool = False) -> Mapping[str, str]:
        """The secret headers to keep, each MASK replaced by the value `before` has under that name (without case).

        moved: the action goes to another origin than before. What is stored was given for that one: whoever may
            edit an event could else have it sent to himself.

        Raises:
            InvalidInputError: a MASK stands for a value that is not stored, or not for this origin.
        """
        if self.headers is UNSET:
            return before
        stored = {name.lower(): value for name, value in before.items()}
        kept: dict[str, str] = {}
        for name, value in self.headers.items():
            if value == MASK and name.lower() not in stored:
                why = f"{MASK} stands for a stored value, and none is stored for this header. Send the value itself."
                raise InvalidInputError.of(f"action.params.headers.{name}", why, code=field_readers.BAD_ACTION)
            if value == MASK and moved:
                why = f"The value stored was given for another scheme, host and port. Send it again instead of {MASK}."
                raise InvalidInputError.of(f"action.params.headers.{name}", why, code=field_readers.BAD_ACTION)
            kept[name] = stored[name.lower()] if value == MASK else value
        return kept

    def __repr__(self) -> str:
        return f"DraftSecrets({MASK})"


@dataclass(frozen=True, slots=True)
class Draft:
    """What was asked. `by_webhook`: the action was named by its `webhook` alone."""

    name: str | Unset = UNSET
    description: str | Unset = UNSET
    schedule: str | Mapping[str, Any] | Unset | None = UNSET
    timezone: str | Unset = UNSET
    start_time: datetime | Unset | None = UNSET
    end_time: datetime | Unset | None = UNSET
    max_occurrences: int | Unset | None = UNSET
    exclusions: tuple[str, ...] | Unset = UNSET
    tags: tuple[str, ...] | Unset = UNSET
    metadata: Mapping[str, Any] | Unset = UNSET
    action: Action | Unset = UNSET
    key: str | Unset | None = UNSET
    catch_up: CatchUp | Unset = UNSET
    overlap: Overlap | Unset = UNSET
    expires_after: timedelta | Unset | None = UNSET
    ack: Ack | Unset = UNSET
    ack_timeout: timedelta | Unset = UNSET
    retry: RetryPolicy | Unset = UNSET
    status: EventStatus | Unset = UNSET
    paused_until: datetime | Unset | None = UNSET
    skip_next: bool | Unset = UNSET
    snooze: timedelta | datetime | Unset = UNSET
    secrets: DraftSecrets = DraftSecrets()
    notices: tuple[Notice, ...] = ()
    creating: bool = False
    by_webhook: bool = False

    def given(self, name: str) -> bool:
        """Whether the field was named, null included."""
        return getattr(self, name) is not UNSET

    def get(self, name: str) -> Any:
        """The value asked for; None where the field was not given."""
        value = getattr(self, name)
        return None if value is UNSET else value


# --- what changes -------------------------------------------------------------------------------------

_PLAIN: Final = (
    "name",
    "description",
    "timezone",
    "start_time",
    "end_time",
    "max_occurrences",
    "exclusions",
    "tags",
)
_POLICIES: Final = tuple(each.name for each in fields(Policies))


def changed_fields(draft: Draft, event: Event | None) -> Mapping[str, Any]:
    """By their names in Event, the values asked for that are not the event's already; for None, all that were given.

    Status, secrets and the verbs are not among them; nor, of an existing event, its key.
    """
    changed: dict[str, Any] = {}
    for name in _PLAIN:
        value = getattr(draft, name)
        if value is not UNSET and (event is None or value != getattr(event, name)):
            changed[name] = value
    if draft.schedule is not UNSET and (event is None or _is_another_schedule(draft, event)):
        changed["schedule"] = draft.schedule
    if draft.metadata is not UNSET and (event is None or not same(draft.metadata, event.metadata)):
        changed["metadata"] = draft.metadata
    if draft.action is not UNSET:
        action = _merged(draft.action, event) if draft.by_webhook else draft.action
        if event is None or not _are_the_same(action, event.action):
            changed["action"] = action
    before = event.policies if event is not None else Policies()
    policies = replace(before, **{name: getattr(draft, name) for name in _POLICIES if draft.given(name)})
    if policies != before:
        changed["policies"] = policies
    if event is None and draft.get("key") is not None:
        changed["key"] = draft.key
    return changed


def _is_another_schedule(draft: Draft, event: Event) -> bool:
    """Rules are compared as they were given. Asked for anew by its key after its run, `in 2 hours` is another one."""
    if not same(draft.schedule, event.schedule):
        return True
    anew = draft.creating and event.status is EventStatus.INACTIVE
    return anew and isinstance(draft.schedule, str) and _COUNTED_FROM_NOW.match(draft.schedule) is not None


def _merged(action: Action, event: Event | None) -> Action:
    """`webhook` says where, and leaves how as it is."""
    if event is None or event.action.type is not action.type:
        return action
    return Action(action.type, {**event.action.params, **action.params})


def _is_as_shown(read: tuple[Action, Mapping[str, str]] | None, action: Action) -> bool:
    if read is None:
        return False
    asked, secret_headers = read
    return _are_the_same(asked, action) and all(value == MASK for value in secret_headers.values())


def _as_given(action: Action) -> dict[str, object]:
    return {"type": action.type.value, "params": dict(action.params)}


def _are_the_same(one: Action, other: Action) -> bool:
    return one.type is other.type and same(one.params, other.params)


# --- reading ------------------------------------------------------------------------------------------


def read_fields(given: Mapping[str, object], *, creating: bool, event: Event | None = None) -> Draft:
    """Read a request's fields: those of an event to be made, or those of `event` to be changed.

    Raises:
        InvalidInputError: every faulty field at once, ten at most, each with what to send instead.
    """
    return _Reading(given, creating=creating, event=event).draft()


_DEFAULTS: Final[Mapping[str, object]] = {
    "description": "",
    "schedule": None,
    "timezone": "UTC",
    "start_time": None,
    "end_time": None,
    "max_occurrences": None,
    "exclusions": (),
    "tags": (),
    "metadata": {},
    "action": (Action(), {}),
    "webhook": None,
    "key": None,
    "hmac_secret": None,
    "paused_until": None,
    **{each.name: getattr(Policies(), each.name) for each in fields(Policies)},
}
"""What null stands for."""

_ALONE: Final[Mapping[str, Reader]] = {
    "name": field_readers.name,
    "description": field_readers.description,
    "timezone": field_readers.timezone,
    "schedule": field_readers.schedule,
    "max_occurrences": field_readers.max_occurrences,
    "exclusions": field_readers.exclusions,
    "tags": field_readers.tags,
    "metadata": field_readers.metadata,
    "action": field_readers.action,
    "webhook": field_readers.webhook,
    "hmac_secret": field_readers.hmac_secret,
    "key": field_readers.key,
    "catch_up": field_readers.catch_up,
    "overlap": field_readers.overlap,
    "expires_after": field_readers.expires_after,
    "ack": field_readers.ack,
    "ack_timeout": field_readers.ack_timeout,
    "retry": field_readers.retry,
    "skip_next": field_readers.flag,
}
"""Those that are read without regard to any other."""


def meant_by(field: str, value: object) -> Sequence[object]:
    """What a caller may have meant by a value of the wrong form, likeliest first; each would do.

    None for a field that is read beside others, and for a value that does.
    """
    try:
        if (reader := _ALONE.get(field)) is not None:
            reader(value)
    except Wrong as wrong:
        return () if wrong.at or len(wrong.parts) > 1 else wrong.meant
    return ()


_VERBS: Final = frozenset({"skip_next", "snooze"})
_WITH_SECRETS: Final = frozenset({"hmac_secret", "action", "webhook"})  # `got` leaves them out


class _Reading:
    """One request, read field by field; what is wrong is collected and refused at the end."""

    def __init__(self, given: Mapping[str, object], *, creating: bool, event: Event | None) -> None:
        self._given = given
        self._creating = creating
        self._event = event
        self._values: dict[str, Any] = {}
        self._faults: list[Fault] = []

    def draft(self) -> Draft:
        self._read_all()
        if self._creating and not self._is_faulty("name") and "name" not in self._values:
            self._refuse("name", "This field is required.", {"name": self._a_name()})
        self._check_schedule_is_there()
        self._agree_on_the_action()
        self._agree_on_the_status()
        if self._faults:
            self._read_the_schedule_too()
            raise InvalidInputError(faults=self._faults)
        return self._drafted()

    # --- one by one ---

    def _read_all(self) -> None:
        unreadable = self._refuse_unreadable()
        if len(self._faults) >= FAULTS_MOST:
            raise InvalidInputError(faults=self._faults)
        readers = self._readers()
        for name in WRITABLE:
            if name in self._given and name not in unreadable:
                self._read(name, self._given[name], readers[name])

    def _refuse_unreadable(self) -> set[str]:
        """Unknown fields, and values that no field takes; the names of those found."""
        refused: set[str] = set()
        for name, value in self._given.items():
            if name in ANSWER_ONLY:
                continue
            if not isinstance(name, str) or name not in WRITABLE:
                self._refuse(printable(name), f"No such field; the nearest is {_nearest(name)}.", code=_UNKNOWN_FIELD)
            elif (why := fault_in(value, 2)) is not None:
                self._faults.append(self._bad_text(name, value, why) if why in TEXT_FAULTS else _fault(name, why))
                refused.add(name)
            if len(self._faults) >= FAULTS_MOST:
                break
        return refused

    def _bad_text(self, name: str, value: object, why: str) -> Fault:
        """Characters that are refused in any text; the same without them is offered where that is short and no secret."""
        field = ".".join(map(str, (name, *(bad_text_in(value) or ()))))
        if name not in _PLAIN and name not in ("schedule", "metadata", "paused_until"):
            return Fault(field, _BAD_TEXT, why)
        got = printable(value) if isinstance(value, str) else None
        better = without_bad_text(value)
        short = json_size(better) <= _FIX_MOST and _is_read(better, self._readers()[name])
        return Fault(field, _BAD_TEXT, why, got, ({name: better},) if short else ())

    def _readers(self) -> Mapping[str, Reader]:
        return {
            **_ALONE,
            "start_time": lambda value: self._instant("start_time", value),
            "end_time": lambda value: self._instant("end_time", value),
            "paused_until": lambda value: self._instant("paused_until", value),
            "snooze": self._snooze,
            "status": self._status,
        }

    def _read(self, name: str, value: object, reader: Reader) -> None:
        if name in _VERBS and self._creating:
            self._refuse(name, "This is for an event that exists: send it with PUT.")
            return
        if name == "key" and self._event is not None:
            if value != self._event.key:
                self._refuse(name, "A key is fixed when its event is created.", {"key": self._event.key})
            return
        if name == "status" and value is None:
            value = EventStatus.ACTIVE  # its default; on an active event that is no change
        if value is None:
            if name in _DEFAULTS:
                self._values[name] = _DEFAULTS[name]
            else:
                fix: list[dict[str, object]] = [{"name": self._a_name()}] if name == "name" else []
                self._refuse(name, "This cannot be null.", *fix)
            return
        try:
            self._values[name] = reader(value)
        except Wrong as finding:
            self._faults += _faults_of(name, value, finding, reader)
        except InvalidInputError as error:
            self._faults += error.faults

    def _zone(self) -> str | None:
        """The zone of this request; where it names a faulty one, any will do to read the rest."""
        if self._is_faulty("timezone"):
            return "UTC"
        zone: str | None = self._values.get("timezone")
        return zone

    def _instant(self, name: str, value: object) -> datetime:
        if not isinstance(value, str):
            raise field_readers.mistyped("an instant such as 2027-03-01T09:00:00Z", value, "2030-01-01T09:00:00Z")
        try:
            return parse_instant(value, field=name, timezone=self._zone())
        except InvalidInputError as error:
            faults = [self._in_own_zone(fault) for fault in error.faults]
            if name == "start_time":  # the last year that can be planned is too far ahead for a first run
                faults = [
                    replace(fault, fix=tuple(fix for fix in fault.fix if not _is_last_year(fix))) for fault in faults
                ]
            raise InvalidInputError(faults=faults) from None

    def _in_own_zone(self, fault: Fault) -> Fault:
        """Where a fix guesses a zone, the event's own is the better guess."""
        if self._event is None or self._event.timezone == "UTC":
            return fault
        zone = {"timezone": self._event.timezone}
        return replace(fault, fix=tuple({**fix, **zone} if "timezone" in fix else fix for fix in fault.fix))

    def _snooze(self, value: object) -> timedelta | datetime:
        if isinstance(value, str) and _BEGINS_WITH_A_YEAR.match(value):
            return self._instant("snooze", value)
        if not isinstance(value, str):
            raise field_readers.mistyped("a length of time, or an instant", value, "1h")
        return parse_duration(value, field="snooze")  # how far it goes is a matter of the run after it

    def _status(self, value: object) -> EventStatus | Unset:
        """`inactive` asks for a pause, as in the later dialect; on an event that is inactive it asks for nothing."""
        if value == EventStatus.DELETED:
            raise Wrong("To stop an event for good, send DELETE. To stop it for now, pause it.", "paused")
        if value not in (EventStatus.ACTIVE, EventStatus.PAUSED, EventStatus.INACTIVE):
            raise Wrong("One of active, paused.", "active", "paused")
        asked = EventStatus(str(value))
        if self._event is not None and asked is self._event.status:
            return UNSET
        return EventStatus.PAUSED if asked is EventStatus.INACTIVE else asked

    # --- taken together ---

    def _check_schedule_is_there(self) -> None:
        """`start_time` without `schedule` is once, then; neither is nothing."""
        if self._is_faulty("schedule") or self._is_faulty("start_time"):
            return
        if self._creating:
            self._values.setdefault("schedule", None)
        schedule = self._values.get("schedule", self._event.schedule if self._event else None)
        start = self._values.get("start_time", self._event.start_time if self._event else None)
        if schedule is not None or start is not None:
            return
        fixes: list[dict[str, object]] = [{"schedule": example} for example in SCHEDULE_EXAMPLES]
        if self._event is not None and self._event.schedule is not None:
            fixes = [{"schedule": self._event.schedule}]
        elif self._event is not None and self._event.start_time is not None:
            fixes = [{"start_time": say_instant(self._event.start_time)}]
        self._refuse("schedule", "Say when: a schedule, or a start_time for once.", *fixes)

    def _agree_on_the_action(self) -> None:
        """`action` and `webhook` name one destination: what is as shown gives way, and what is left must agree."""
        self._by_webhook = False
        webhook: Action | Unset | None = self._values.pop("webhook", UNSET)
        if self._is_faulty("webhook") and "action" in self._given:
            action, _ = self._values.get("action", (None, {}))
            self._mend("webhook", {"webhook": webhook_of(action) if action is not None else None})
        if webhook is UNSET:
            return
        line = webhook_of(webhook) if webhook is not None else None
        if self._event is not None and line == webhook_of(self._event.action):
            return
        if self._is_faulty("action"):
            if webhook is not None:
                self._mend("action", {"action": _as_given(webhook)})
            return
        if self._event is not None and _is_as_shown(self._values.get("action"), self._event.action):
            del self._values["action"]
        if "action" not in self._values:
            self._by_webhook = webhook is not None
            self._values["action"] = (webhook or Action(), {})
            return
        action, _ = self._values["action"]
        if webhook is not None and webhook_of(action) != line:
            why = "It must name the destination that `action` names."
            self._refuse("webhook", why, {"webhook": webhook_of(action)}, {"action": _as_given(webhook)})

    def _agree_on_the_status(self) -> None:
        if self._event is not None and self._values.get("paused_until", UNSET) == self._event.paused_until:
            del self._values["paused_until"]
        if self._is_faulty("status") and self._given.get("paused_until") is not None:
            self._mend("status", {"status": "paused"})
        if self._values.get("status") is not EventStatus.ACTIVE:
            return
        if self._is_faulty("paused_until"):
            self._mend("paused_until", {"paused_until": None})
        elif self._values.get("paused_until") is not None:
            why = "An event that resumes by itself is paused until then."
            self._refuse("paused_until", why, {"status": "paused"}, {"paused_until": None})

    def _read_the_schedule_too(self) -> None:
        """All faulty fields are told of at once, so the rule is read here too where it will not come to planning."""
        schedule = self._values.get("schedule")
        if schedule is None or len(self._faults) >= FAULTS_MOST:
            return
        try:
            Timetable.of(
                schedule,
                timezone=self._values.get("timezone", self._event.timezone if self._event else "UTC"),
                timezone_given=self._zone() is not None or self._event is not None,
                anchor=_SOME_DAY,
                exclusions=self._values.get("exclusions", ()),
                check_from=_SOME_DAY,
            )
        except InvalidInputError as error:
            self._faults += error.faults

    # --- the end ---

    def _drafted(self) -> Draft:
        values = dict(self._values)
        secrets = DraftSecrets(hmac_secret=values.pop("hmac_secret", UNSET))
        if "action" in values:
            values["action"], headers = values["action"]
            secrets = replace(secrets, headers=headers)
        return Draft(
            **values, secrets=secrets, notices=self._notices(), creating=self._creating, by_webhook=self._by_webhook
        )

    def _notices(self) -> tuple[Notice, ...]:
        notices: list[Notice] = []
        plain = [place for place, tag in enumerate(self._values.get("tags", ())) if ":" in tag and not is_scope(tag)]
        if plain:
            which = ", ".join(f"tags[{place}]" for place in plain[:3]) + (", ..." if plain[3:] else "")
            says = f"{which} looks like a label and is none: a label is resource:identifier, such as user:rizqme."
            notices.append(Notice("no_label", says))
        secret = self._values.get("hmac_secret")
        if secret is not None and len(key_of(secret)) < SECRET_STRONG:
            says = f"hmac_secret is under {SECRET_STRONG} bytes: a longer one is harder to guess."
            notices.append(Notice("short_secret", says))
        for name in ("description", "metadata"):
            if hides(self._values.get(name)):
                says = f"{name} holds bidirectional, zero-width or tag characters: it may not read as it looks."
                notices.append(Notice("hidden_text", says))
        return tuple(notices)

    def _a_name(self) -> str:
        """One made of the description, where there is none."""
        described = self._given.get("description")
        line = described.strip().partition("\n")[0] if isinstance(described, str) else ""
        try:
            return field_readers.name(line[:60].strip() if fault_in(line) is None else "")
        except Wrong as finding:
            return str(finding.meant[0])

    def _is_faulty(self, name: str) -> bool:
        return any(fault.field == name or fault.field.startswith(f"{name}.") for fault in self._faults)

    def _mend(self, name: str, fix: dict[str, object]) -> None:
        """Give the faults of a field this one fix, which agrees with the other fields."""
        fixes = iter([(fix,)])
        self._faults = [
            replace(fault, fix=next(fixes, ())) if fault.field.split(".")[0] == name else fault
            for fault in self._faults
        ]

    def _refuse(self, name: str, why: str, *fix: dict[str, object], code: str = InvalidInputError.code) -> None:
        self._faults.append(_fault(name, why, *fix, code=code))


def _fault(name: str, why: str, *fix: dict[str, object], code: str = InvalidInputError.code) -> Fault:
    return Fault(name, code, why, fix=fix)


# --- fixes --------------------------------------------------------------------------------------------

_LAST_RESORT: Final[Mapping[str, Sequence[Mapping[str, object]]]] = {
    "schedule": [{"schedule": "every day at 9am"}, {"schedule": "in 1h"}],
    "timezone": [{"timezone": "UTC"}],
    "exclusions": [{"exclusions": []}],
    "start_time": [{"start_time": None}, {"start_time": None, "schedule": "in 1h"}],
    "end_time": [{"end_time": None}],
    "paused_until": [{"paused_until": None}],
}
"""Of the fields that say when: what surely helps, where nothing nearer is accepted."""


def with_accepted_fixes(
    error: InvalidInputError, given: Mapping[str, object], accept: Callable[[Mapping[str, object]], object]
) -> InvalidInputError:
    """The same refusal of one field that says when, with those of its fixes that are accepted in this request.

    A reader knows no more than its own field: whether an instant is ahead, or leaves a run, only the whole
    request tells. `accept` raises InvalidInputError where a request will not do.
    """
    names = {fault.field.partition(".")[0] for fault in error.faults}
    if len(names) > 1 or not names <= _LAST_RESORT.keys():
        return error

    def accepted(fix: Mapping[str, object]) -> bool:
        try:
            accept({**given, **fix})
        except InvalidInputError:
            return False
        return True

    faults = []
    for fault in error.faults:
        fixes = [fix for fix in fault.fix if accepted(fix)][:FIXES_MOST]
        surely = (dict(fix) for fix in _LAST_RESORT[min(names)] if accepted(fix))
        faults.append(replace(fault, fix=tuple(fixes or list(surely))))
    return type(error)(faults=faults)


def _is_last_year(fix: Mapping[str, object]) -> bool:
    return str(fix.get("start_time", "")).startswith("2199-")


def _nearest(name: object) -> str:
    said = name.lower()[:40] if isinstance(name, str) else ""
    return _MEANT.get(said) or difflib.get_close_matches(said, WRITABLE, n=1, cutoff=0.0)[0]


def _faults_of(name: str, value: object, finding: Wrong, reader: Reader) -> list[Fault]:
    """A fault for each faulty part. Several are mended at once, by the fix of the first; each fix was tried."""
    parts = finding.parts
    faults = [
        Fault(
            ".".join(map(str, (name, *part.at))),
            part.code,
            part.why,
            None if name in _WITH_SECRETS else _part_of(value, part.at),
        )
        for part in parts
    ]
    if name in _WITH_SECRETS and _holds_headers(value):
        return faults  # a fix would repeat their values
    if len(parts) == 1:
        meant = [_with(value, parts[0].at, each) for each in parts[0].meant]
    elif all(part.meant for part in parts):
        whole = value
        for part in parts:
            whole = _with(whole, part.at, part.meant[0])
        meant = [whole]
    else:
        meant = []
    fix = tuple({name: each} for each in meant if _is_read(each, reader))
    return [replace(faults[0], fix=fix[:FIXES_MOST]), *faults[1:]]


def _is_read(value: object, reader: Reader) -> bool:
    try:
        reader(value)
    except (Wrong, InvalidInputError):
        return False
    return True


def _holds_headers(value: object) -> bool:
    params = value.get("params") if isinstance(value, Mapping) else None
    return isinstance(params, Mapping) and bool(params.get("headers"))


def _part_of(value: Any, at: tuple[str | int, ...]) -> object:
    """What stands at that place, if anything does."""
    try:
        for step in at:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        return None
    return value


def _with(value: object, at: tuple[str | int, ...], part: object) -> object:
    """A copy of `value` in which `part` stands at that place."""
    if not at:
        return part
    changed: Any = copy.deepcopy(value)
    inner = changed
    for step in at[:-1]:
        inner = inner[step]
    inner[at[-1]] = part
    return changed
