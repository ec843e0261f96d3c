"""Who may do what, said a second time: straight from the text of access.md §5, and sharing no code with the product.

The product decides with sets and one expression; here everything is spelled out letter by letter and case by case. The
table is run against the domain's rules, both stores' lists, REST and MCP.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Literal

Kind = Literal["master", "admin", "write", "read"]
Verdict = Literal["allowed", "forbidden", "absent"]

READING = ("get", "list", "occurrences", "attempts", "preview", "stream")
WRITING = ("update", "pause", "delete", "trigger", "acknowledge", "retry", "hook")
ACTIONS = (*READING, *WRITING)


@dataclass(frozen=True)
class Who:
    """A principal: the master, or the three things a token says."""

    kind: Kind
    scopes: tuple[str, ...] = ()
    sub: str = "someone"

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.scopes)}".strip()


def is_label(tag: str) -> bool:
    """`resource:identifier`, spelled out: one colon, a lower-case resource, an identifier of few characters."""
    if tag.count(":") != 1:
        return False
    resource, identifier = tag.split(":")
    if len(resource) not in range(1, 33) or len(identifier) not in range(1, 129):
        return False
    if resource[0] not in string.ascii_lowercase:
        return False
    allowed = string.ascii_lowercase + string.digits + "_-"
    if any(letter not in allowed for letter in resource):
        return False
    allowed = string.ascii_letters + string.digits + "._@-"
    return all(letter in allowed for letter in identifier)


def labels_of(tags: Sequence[str]) -> list[str]:
    return [tag for tag in tags if is_label(tag)]


def sees(who: Who, labels: Sequence[str]) -> bool:
    """R3: master and admin everything; others what shares one label with them."""
    if who.kind in ("master", "admin"):
        return True
    for label in labels:
        for scope in who.scopes:
            if label == scope:
                return True
    return False


def changes(who: Who, labels: Sequence[str]) -> bool:
    """R4: write access, a label at least, and every label among one's scopes."""
    if who.kind in ("master", "admin"):
        return True
    if who.kind == "read" or len(labels) == 0:
        return False
    held = 0
    for label in labels:
        if label in list(who.scopes):
            held += 1
    return held == len(labels)


def verdict(who: Who, labels: Sequence[str], action: str) -> Verdict:
    """R8: what cannot be seen is absent; what can be seen and not changed is forbidden."""
    if not sees(who, labels):
        return "absent"
    if action in READING:
        return "allowed"
    return "allowed" if changes(who, labels) else "forbidden"


def labels_made(who: Who, tags: Sequence[str]) -> frozenset[str] | None:
    """R2 and R5 at creation; None is a refusal."""
    if who.kind == "read":
        return None
    own = labels_of(tags)
    if not own and who.kind == "write":
        own = list(who.scopes)
    if not own and who.kind == "admin" and is_label("user:" + who.sub):
        own = ["user:" + who.sub]
    if who.kind in ("master", "admin"):
        return frozenset(own)
    return frozenset(own) if changes(who, own) else None


def labels_kept(who: Who, labels: Sequence[str], tags: Sequence[str]) -> frozenset[str] | Verdict:
    """An update of the tags: the labels it ends with, or how it is refused."""
    first = verdict(who, labels, "update")
    if first != "allowed":
        return first
    after = labels_of(tags) or list(labels)
    if who.kind == "write" and not changes(who, after):
        return "forbidden"
    return frozenset(after)


# --- the table ----------------------------------------------------------------------------------------

LABELS = ("user:a", "user:b", "system:t", "user:a2")
"""`user:a2` begins as `user:a` does: nothing is matched by its beginning."""

SCOPE_SETS = (
    ("user:a",),
    ("user:b",),
    ("system:t",),
    ("user:a", "user:b"),
    ("user:a", "system:t"),
    ("user:a", "user:b", "system:t"),
    ("user:a2", "system:t"),
    ("user:A", "system:T"),
)


def subsets(of: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(of, size) for size in range(len(of) + 1))


def principals() -> list[Who]:
    bounded = [Who(kind, scopes) for kind in ("write", "read") for scopes in SCOPE_SETS]
    return [Who("master", (), "master"), Who("admin"), *(Who("admin", scopes) for scopes in SCOPE_SETS), *bounded]


def rows() -> Iterator[tuple[Who, tuple[str, ...], str, Verdict]]:
    """Every principal before every set of labels, for every action: who, labels, action, what must come of it."""
    for who in principals():
        for labels in subsets(LABELS):
            for action in ACTIONS:
                yield who, labels, action, verdict(who, labels, action)
