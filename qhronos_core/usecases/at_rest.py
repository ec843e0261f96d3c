"""Which keys the stored secrets are sealed with, and sealing them anew with the present one while nodes serve.

Nothing stops for it: a sealed value is replaced only while it still holds the very bytes that were read, nodes open
both kinds meanwhile, and one that has not heard of a key gives back what it cannot open. A run that ended half way is
finished by the next.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from qhronos_core.ports import HEAD_BYTES, KeyFiles, KeyMissingError, SealedValue, Store, Vault, VaultError

BATCH: Final = 100  # values in one short transaction
PASSES: Final = 10  # then somebody goes on sealing with another key
KEPT_FOR: Final = timedelta(hours=1)  # a retired key, beyond all that was under way when it was retired


@dataclass(frozen=True, slots=True)
class KeyInUse:
    """`values`: how many are sealed with it. `retired_at`: since when a file of this installation keeps it beside."""

    head: bytes
    values: int
    current: bool
    kept: bool
    retired_at: datetime | None = None

    @property
    def name(self) -> str:
        return name_of(self.head)

    def forgettable(self, now: datetime) -> bool:
        return self.retired_at is not None and not self.values and now - self.retired_at >= KEPT_FOR


@dataclass(frozen=True, slots=True)
class Progress:
    """`sealed_anew` of `found` so far. `unopened`: of a key that is not kept; `damaged`: changed since they were sealed."""

    found: int
    sealed_anew: int = 0
    unopened: int = 0
    damaged: int = 0
    finished: bool = False


class AtRest:
    def __init__(self, store: Store, vault: Vault, files: KeyFiles | None) -> None:
        self._store = store
        self._vault = vault
        self._files = files

    @property
    def makes_its_own(self) -> bool:
        """Whether `renew` can make a key; else it is the operator who configures it."""
        return self._files is not None

    @property
    def current(self) -> str:
        return name_of(self._vault.head())

    async def keys(self) -> Sequence[KeyInUse]:
        """The present key first, then the others that sealed something or are kept in files. Looks at every secret."""
        current = self._vault.head()
        retired = {} if self._files is None else self._files.retired()
        counted = await self._store.sealed.heads(HEAD_BYTES)
        others = sorted((retired.keys() | counted.keys()) - {current})
        return [
            KeyInUse(head, counted.get(head, 0), head == current, self._vault.opens(head), retired.get(head))
            for head in (current, *others)
        ]

    async def renew(self) -> None:
        """A new key, which every process on this data directory seals with from now on."""
        if self._files is not None:
            self._files.renew(await self._store.now())

    async def seal_anew(self) -> AsyncIterator[Progress]:
        """Seal with the present key whatever is sealed with another; after each batch, how far it is.

        The last one is `finished` if nothing is left that can be opened and is not sealed with the present key.
        """
        found = sum(key.values for key in await self.keys() if not key.current)
        progress = Progress(found)
        sealed_anew = 0
        for _ in range(PASSES):
            unopened = damaged = anew = lost = 0
            after: SealedValue | None = None
            while values := await self._store.sealed.without(self._vault.head(), after=after, limit=BATCH):
                after = values[-1]
                replacing: list[tuple[SealedValue, bytes]] = []
                for value in values:
                    try:
                        plain = self._vault.open(value.sealed, context=value.context)
                    except KeyMissingError:
                        unopened += 1
                    except VaultError:
                        damaged += 1
                    else:
                        replacing.append((value, self._vault.seal(plain, context=value.context)))
                written = await self._store.sealed.replace(replacing) if replacing else 0
                anew += written
                lost += len(replacing) - written  # changed meanwhile: whoever did so sealed it
                sealed_anew += written
                progress = Progress(max(found, sealed_anew), sealed_anew, unopened, damaged)
                yield progress
            if not anew and not lost:
                yield Progress(progress.found, sealed_anew, unopened, damaged, finished=True)
                return

    async def forget(self) -> Sequence[KeyInUse]:
        """Remove the retired keys that seal nothing, an hour after they were retired; those that are gone."""
        now = await self._store.now()
        gone = [key for key in await self.keys() if key.forgettable(now)]
        if gone and self._files is not None:
            self._files.forget(key.head for key in gone)
        return gone


def name_of(head: bytes) -> str:
    """A key as an operator sees it: enough to tell it from others, nothing of the key."""
    return head[1:].hex()
