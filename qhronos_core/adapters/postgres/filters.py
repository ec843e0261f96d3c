"""Conditions on events and occurrences, gathered: what may be seen, and what was asked for."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString

from qhronos_core.domain.access import READ, Reach
from qhronos_core.domain.event import EventStatus
from qhronos_core.ports import EventQuery, InboxQuery, OccurrenceQuery

BEGUN: Final[LiteralString] = (
    "(o.attempts_made > 0 OR o.round > 1 OR o.state <> 'pending' OR o.inbox_at IS NOT NULL)"  # as Occurrence.begun
)


class Where:
    """Conditions joined by AND, with their parameters. `e` is the event, `o` the occurrence."""

    def __init__(self) -> None:
        self._conditions: list[LiteralString] = []
        self.parameters: dict[str, Any] = {}

    @property
    def text(self) -> LiteralString:
        return " AND ".join(self._conditions) if self._conditions else "true"

    def add(self, condition: LiteralString, **parameters: Any) -> "Where":
        self._conditions.append(condition)
        self.parameters.update(parameters)
        return self

    def reached(self, reach: Reach) -> "Where":
        """R3 and R4 as a predicate, served by events_labels_idx."""
        if reach.everything:
            return self
        if reach.level is READ:
            return self.add("e.labels && %(scope)s::text[]", scope=sorted(reach.scope))
        return self.add("e.labels <> '{}' AND e.labels <@ %(scope)s::text[]", scope=sorted(reach.scope))

    def tagged(self, tags: Sequence[str], *, all_of_them: bool = False) -> "Where":
        if not tags:
            return self
        if all_of_them:
            return self.add("e.tags @> %(tags)s::text[]", tags=list(tags))
        return self.add("e.tags && %(tags)s::text[]", tags=list(tags))

    def events(self, query: EventQuery) -> "Where":
        if query.statuses:
            self.add("e.status = ANY (%(statuses)s::text[])", statuses=[status.value for status in query.statuses])
        else:
            self.add("e.status <> 'deleted'")
        if query.text:
            self.add("position(%(text)s::text in e.folded) > 0", text=query.text.casefold())
        if query.key is not None:
            self.add("e.key = %(key)s", key=query.key)
        return self.tagged(query.tags, all_of_them=query.match_all)

    def occurrences(self, query: OccurrenceQuery, reach: Reach) -> "Where":
        if query.event_id is not None:
            self.add("o.event_id = %(event)s", event=query.event_id)
        if query.states:
            self.add("o.state = ANY (%(states)s::text[])", states=[state.value for state in query.states])
        if query.since is not None:
            self.add("o.scheduled_at >= %(since)s", since=query.since)
        if query.until is not None:
            self.add("o.scheduled_at < %(until)s", until=query.until)
        if query.live or not reach.everything:
            self.add("e.status <> %(deleted)s", deleted=EventStatus.DELETED.value)
        return self.reached(reach).tagged(query.tags, all_of_them=query.match_all)

    def inbox(self, query: InboxQuery, reach: Reach) -> "Where":
        if query.event_id is not None:
            self.add("o.event_id = %(event)s", event=query.event_id)
        return self.add("e.status <> 'deleted'").reached(reach).tagged(query.tags)
