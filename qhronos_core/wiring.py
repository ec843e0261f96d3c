"""The one place that knows every adapter: settings in, a running core out.

`open_core` closes what it opened, in the reverse order, also when something in between failed.
Imports of drivers are inside the functions, so that a process answers its first request quickly.
"""

import asyncio
import os
import secrets as randomness
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.config import Settings
from qhronos_core.domain.announcement import ERROR_NUMBERS
from qhronos_core.domain.errors import StartRefusedError, StoreUnavailableError, UnavailableError
from qhronos_core.domain.event import Action, ActionType
from qhronos_core.domain.judgement import Judgement
from qhronos_core.domain.schedule import tzdata_version
from qhronos_core.ports import HEAD_BYTES, Callbacks, Clock, Courier, Journal, Limits, Signals, Store, Vault
from qhronos_core.scheduler.dispatcher import Dispatcher, DispatchSettings
from qhronos_core.scheduler.loop import Loop
from qhronos_core.scheduler.retention import Kept, Retention
from qhronos_core.scheduler.subscriptions import Deliveries, DeliveriesSettings
from qhronos_core.tally import Tally
from qhronos_core.usecases.announcements import Announcements
from qhronos_core.usecases.at_rest import AtRest
from qhronos_core.usecases.events import EventCases, EventRules
from qhronos_core.usecases.occurrences import OccurrenceCases
from qhronos_core.usecases.secrets import keeper_of
from qhronos_core.usecases.subscriptions import SubscriptionCases, opened
from qhronos_core.usecases.tokens import TokenCases
from qhronos_core.usecases.waits import WaitCases
from qhronos_core.usecases.zones import follow_zones

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from qhronos_core.adapters.http.hosts import Hosts
    from qhronos_core.adapters.local.at_rest import AtRestFiles
    from qhronos_core.domain.destination import EgressPolicy


@dataclass(slots=True)
class ConnectedClients:
    """The WebSocket clients of this node, and of the others as far as their presence is known."""

    here: set[str] = field(default_factory=set)
    elsewhere: frozenset[str] = frozenset()
    other_nodes: bool = False  # whether any other node serves

    def only_elsewhere(self, client_name: str) -> bool:
        return client_name in self.elsewhere and client_name not in self.here


@dataclass(frozen=True, slots=True)
class Load:
    """How busy this node is at this moment."""

    in_flight: int = 0  # attempts
    slots: int = 0  # how many there may be at once
    breakers_open: int = 0


@dataclass(slots=True)
class Core:
    """What a face gets. Nothing in it is an adapter's own type."""

    settings: Settings
    node: str
    events: EventCases
    occurrences: OccurrenceCases
    tokens: TokenCases
    waits: WaitCases
    journal: Journal
    signals: Signals
    limits: Limits
    clock: Clock
    store: Store
    couriers: MutableMapping[ActionType, Courier]
    started_at: datetime
    clients: ConnectedClients = field(default_factory=ConnectedClients)  # kept up to date by `/ws`
    secrets_made: tuple[Path, ...] = ()  # files of this first start
    subscriptions: SubscriptionCases | None = None  # None: no callbacks are made
    at_rest: AtRest | None = None
    tally: Tally = field(default_factory=Tally)
    load: Callable[[], Load] = Load
    _loop: Loop | None = None
    _deliveries: Deliveries | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _zones: asyncio.Task[None] | None = None
    _draining: bool = False
    _closed: bool = False

    async def now(self) -> datetime:
        """The store's clock."""
        return await self.store.now()

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def delivers(self) -> bool:
        """Whether this node claims what is due, or only serves."""
        return self._loop is not None

    async def ready(self) -> bool:
        """Whether this node takes new work: not while draining, not without a store, nor with one that has no room."""
        if self._draining:
            return False
        try:
            async with asyncio.timeout(2):
                await self.store.occurrences.next_due()  # the clock alone is no answer: the embedded store's is ours
        except (StoreUnavailableError, TimeoutError):
            return False
        return self.store.takes_writes

    async def status(self) -> Mapping[str, Any]:
        """For `/status` with a token, and `qhronos doctor`. Raises StoreUnavailableError."""
        due, oldest = await self.store.occurrences.backlog()
        now = await self.store.now()
        return {
            "now": now,
            "node": self.node,
            "nodes": sorted(await self.store.presence.nodes() | {self.node}),
            "store": dict(await self.store.status()),
            "due": due,
            "oldest_due_seconds": max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
            "tzdata": tzdata_version(),
            "uptime_seconds": (self.clock.now() - self.started_at).total_seconds(),
        }

    def start_scheduler(self) -> None:
        """Begin to claim and send; call it once the faces have added their couriers."""
        if self._loop is not None and not self._tasks:
            self._tasks.append(asyncio.create_task(self._loop.run(), name="scheduler"))
            if self._deliveries is not None:
                self._tasks.append(asyncio.create_task(self._deliveries.run(), name="subscriptions"))
            self._zones = asyncio.create_task(self._follow_zones(), name="zones")

    async def _follow_zones(self) -> None:
        """After a release with other time zones, planned runs are planned anew."""
        while True:
            try:
                replanned = await follow_zones(self.store, self.signals, tzdata_version())
            except UnavailableError:
                await asyncio.sleep(1)
                continue
            except Exception:  # nothing is noted as followed, so the next start tries again
                _log.exception("zones_not_followed")
                return
            if replanned:
                _log.info("planned_anew_for_new_time_zones", count=replanned)
            return

    def begin_drain(self) -> None:
        """No new claim, and `ready` answers no. What is under way goes on."""
        self._draining = True
        if self._loop is not None:
            self._loop.stop()
        if self._deliveries is not None:
            self._deliveries.stop()

    async def aclose(self) -> None:
        """Drain: what is under way finishes or is cut at `delivery.drain`. Safe to call twice."""
        self.begin_drain()
        if self._closed:
            return
        self._closed = True
        if self._zones is not None:
            await _cancelled(self._zones)
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task


def configure_logs(settings: Settings) -> None:
    """For the whole process, once."""
    from qhronos_core.adapters.local.logs import configure

    configure(settings.log.level, settings.log.format)


@asynccontextmanager
async def open_core(
    settings: Settings, *, run_scheduler: bool | None = None, only_look: bool = False
) -> AsyncIterator[Core]:
    """A core on the configured store. The scheduler starts with `start_scheduler`.

    `only_look`: for whoever changes nothing. Nothing is made, and a store of an earlier schema is not brought up to date.

    Returns before a remote store answers (calls then raise StoreUnavailableError); an embedded
    store is open and migrated.

    Raises:
        StartRefusedError: the data directory or a secret will not do; one line for the operator.
    """
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        keys = _keys(settings)
        store = await stack.enter_async_context(_open_store(settings, clock, only_look=only_look))
        signals = await _signals(settings, stack, only_look=only_look)
        limits = _limits(settings, stack)
        vault = keys.vault()
        await keys.require_old(store, vault)
        couriers, check_destination, hosts = await _couriers(settings, stack)
        callbacks = await _callbacks(settings, stack)
        keeper = keeper_of(vault)
        clients = ConnectedClients()
        tally = Tally()
        events = EventCases(
            store,
            signals,
            keeper=keeper,
            check_destination=check_destination,
            rules=EventRules(
                min_interval=settings.scheduler.min_interval,
                quota_events=settings.quotas.events,
                quota_runs_per_day=settings.quotas.runs_per_day,
            ),
            tally=tally,
        )
        node = f"{socket.gethostname()[:40]}-{os.getpid()}-{randomness.token_hex(3)}"
        dispatcher = Dispatcher(
            store=store,
            judge=Judgement(settings.scheduler.late_grace, clients),
            couriers=couriers,
            open_secrets=keeper.open,
            hosts=hosts,
            clock=clock,
            signals=signals,
            settings=DispatchSettings(
                node=node,
                lease=settings.scheduler.lease,
                batch=settings.scheduler.batch,
                concurrency=settings.delivery.concurrency,
                drain=settings.delivery.drain,
            ),
            other_nodes=lambda: clients.other_nodes,
            synced=lambda told, asked_at: clock.adjust(told, asked_at=asked_at),
            tally=tally,
        )
        enabled = settings.scheduler.enabled if run_scheduler is None else run_scheduler
        if enabled:
            _say_what_is_lifted(settings)
            if settings.lease_is_short:
                _log.warning("lease_ends_before_an_attempt_may", reason="scheduler.lease, delivery.timeout")
        tokens = keys.tokens(store, clock, signals)
        core = Core(
            settings=settings,
            node=node,
            events=events,
            occurrences=OccurrenceCases(store, signals, tally=tally),
            tokens=tokens,
            waits=WaitCases(store, signals),
            journal=store.journal,
            signals=signals,
            limits=limits,
            clock=clock,
            store=store,
            couriers=couriers,
            started_at=clock.now(),
            clients=clients,
            secrets_made=keys.made,
            at_rest=AtRest(store, vault, keys.files()),
            subscriptions=SubscriptionCases(
                store,
                signals,
                vault=vault,
                callbacks=callbacks,
                limits=limits,
                nonce=lambda: randomness.token_urlsafe(32),
                ttl=settings.events.ttl,
                most=settings.events.max_subscriptions,
            ),
            tally=tally,
            load=lambda: Load(
                dispatcher.in_flight, settings.delivery.concurrency if enabled else 0, hosts.breakers_open()
            ),
            _deliveries=Deliveries(
                store=store,
                read=Announcements(store).after,
                still_holds=tokens.still_holds,
                open_secrets=lambda subscription: opened(vault, subscription),
                callbacks=callbacks,
                signals=signals,
                settings=DeliveriesSettings(
                    poll=settings.scheduler.poll,
                    per_message=settings.events.webhook_id == "message",
                    forbidden=ERROR_NUMBERS[settings.events.error_codes]["Forbidden"],
                    drain=settings.delivery.drain,
                ),
                tally=tally,
            )
            if enabled
            else None,
            _loop=Loop(
                store=store,
                dispatcher=dispatcher,
                resume_due=events.resume_due,
                clock=clock,
                signals=signals,
                poll=settings.scheduler.poll,
            )
            if enabled
            else None,
        )
        stack.push_async_callback(core.aclose)
        if enabled:
            kept = settings.retention
            retention = Retention(store, Kept(kept.occurrences, kept.attempts, kept.journal, kept.deleted_events))
            task = asyncio.create_task(retention.run(), name="retention")
            stack.push_async_callback(_cancelled, task)
        yield core


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


# --- choosing adapters --------------------------------------------------------------------------------


def absent(settings: Settings) -> Sequence[Path]:
    """What an embedded installation has once it was started and this one has not. Opening it would make each anew.

    Raises:
        StartRefusedError: this user may not see whether it is there.
    """
    if not settings.embedded:
        return ()
    from qhronos_core.adapters.local.secrets import kept_in_files
    from qhronos_core.adapters.sqlite.file import FILE_NAME

    auth = settings.auth
    secrets = kept_in_files(
        settings.data_dir, master_token=auth.master_token, jwt_secret=auth.jwt_secret, at_rest_key=auth.at_rest_key
    )
    return [path for path in (settings.data_dir / FILE_NAME, *secrets) if not _is_there(path)]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StartRefusedError(
            f"{path} cannot be looked at ({error.strerror}): run this as the user who serves, or choose another data"
            " directory with QHRONOS_DATA_DIR or data_dir"
        ) from None


@dataclass(frozen=True, slots=True)
class _Keys:
    """The secrets this node works with, from configuration or from its data directory."""

    settings: Settings
    made: tuple[Path, ...]  # the files this start has made
    master_token: str
    jwt_secret: str
    at_rest_key: bytes

    def vault(self) -> Vault:
        from qhronos_core.adapters.local.at_rest import AtRestFiles
        from qhronos_core.adapters.local.vault import AesVault, derived_key, read_key

        # Without a key of its own the at-rest key is derived from the signing secret, so rotating that retires this.
        auth = self.settings.auth
        signing = (self.jwt_secret, *(each.get_secret_value() for each in auth.previous_secrets.values()))
        others = (
            *(read_key(each.get_secret_value()) for each in auth.previous_at_rest_keys),
            *(derived_key(secret) for secret in signing),
        )
        files = self.files()
        if files is not None:
            found = files.keys()
            return AesVault(found.current, retired=(*found.retired, *others), renewed=files.renewed)
        if self.settings.embedded:  # the files of a node that has its key from the configuration by now
            others = (*others, *AtRestFiles(self.settings.data_dir).kept())
        return AesVault(self.at_rest_key, retired=others)

    def files(self) -> "AtRestFiles | None":
        """None: the at-rest key is configured, or derived."""
        from qhronos_core.adapters.local.at_rest import AtRestFiles

        if not self.settings.embedded or self.settings.auth.at_rest_key is not None:
            return None
        return AtRestFiles(self.settings.data_dir)

    async def require_old(self, store: Store, vault: Vault) -> None:
        """Refuse to go on with a key that this start has made where the store holds secrets sealed with an earlier one."""
        made = [file for file in self.made if file.name == "at_rest_key"]
        if not made or all(vault.opens(head) for head in await store.sealed.heads(HEAD_BYTES)):
            return
        made[0].unlink()
        raise StartRefusedError(
            f"{made[0]} is missing, and the store holds secrets that only its key opens: put it back from your backup."
            " If it is lost for good, so are they: write a new key there (mode 600) with"
            " python3 -c 'import secrets; print(secrets.token_urlsafe(32))', and make those webhooks anew"
        )

    def tokens(self, store: Store, clock: Clock, signals: Signals) -> TokenCases:
        from qhronos_core.adapters.local.jwt import Jwt

        auth = self.settings.auth
        signer = Jwt(
            key_id=auth.key_id,
            secret=self.jwt_secret,
            previous_secrets={key: secret.get_secret_value() for key, secret in auth.previous_secrets.items()},
            issuer=auth.jwt_issuer,
            audience=auth.jwt_audience,
            max_life=auth.max_token_life,
        )
        return TokenCases(
            store=store,
            signer=signer,
            clock=clock,
            signals=signals,
            master_token=self.master_token,
            max_life=auth.max_token_life,
            reserved_subs=frozenset({"master", auth.local_sub}),
            master_may_use_api=auth.master_may_use_api,
        )


def _keys(settings: Settings) -> _Keys:
    """Embedded: what is not configured is made once and kept. PostgreSQL: nodes must agree, so it is configured."""
    from qhronos_core.adapters.local.vault import derived_key, read_key

    auth = settings.auth
    made: tuple[Path, ...] = ()
    told = {
        "master_token": auth.master_token.get_secret_value() if auth.master_token else None,
        "jwt_secret": auth.jwt_secret.get_secret_value() if auth.jwt_secret else None,
        "at_rest_key": auth.at_rest_key.get_secret_value() if auth.at_rest_key else None,
    }
    if settings.embedded:
        from qhronos_core.adapters.local.secrets import ensure_secrets

        kept = ensure_secrets(
            settings.data_dir,
            master_token=auth.master_token,
            jwt_secret=auth.jwt_secret,
            at_rest_key=auth.at_rest_key,
        )
        made = kept.made
        told = {
            "master_token": kept.master_token.get_secret_value(),
            "jwt_secret": kept.jwt_secret.get_secret_value(),
            "at_rest_key": kept.at_rest_key.get_secret_value(),
        }
    jwt_secret = told["jwt_secret"] or ""
    at_rest = read_key(told["at_rest_key"]) if told["at_rest_key"] else derived_key(jwt_secret)
    return _Keys(settings, made, told["master_token"] or "", jwt_secret, at_rest)


@asynccontextmanager
async def _open_store(settings: Settings, clock: SystemClock, *, only_look: bool) -> AsyncIterator[Store]:
    if settings.database is None:
        from qhronos_core.adapters.sqlite import open_sqlite_store

        async with open_sqlite_store(settings.data_dir, clock=clock, migrate=not only_look) as embedded:
            yield embedded
    else:
        from qhronos_core.adapters.postgres import open_postgres_store
        from qhronos_core.adapters.postgres.pool import PoolSettings

        told = settings.database
        pools = PoolSettings(
            size=told.pool, dispatch_size=told.dispatch_pool, prepare_threshold=told.prepare_threshold or None
        )
        async with open_postgres_store(
            told.dsn.get_secret_value(), settings=pools, migrate=told.migrate, only_look=only_look
        ) as remote:
            yield remote


async def _signals(settings: Settings, stack: AsyncExitStack, *, only_look: bool) -> Signals:
    """Redis between nodes; FIFOs between the processes on one data directory; else in process."""
    signals: Signals
    if settings.redis is not None:
        from qhronos_core.adapters.redis.address import require_usable

        require_usable(settings.redis.dsn.get_secret_value())
    if only_look:
        from qhronos_core.adapters.local.signals import LocalSignals

        signals = LocalSignals()
    elif settings.redis is not None:
        from qhronos_core.adapters.redis.signals import RedisSignals

        signals = RedisSignals(settings.redis.dsn.get_secret_value())
    elif settings.embedded:
        from qhronos_core.adapters.local.signals import open_local_signals

        return await stack.enter_async_context(open_local_signals(settings.data_dir))
    else:
        from qhronos_core.adapters.local.signals import LocalSignals

        signals = LocalSignals()
    stack.push_async_callback(signals.aclose)
    return signals


def _limits(settings: Settings, stack: AsyncExitStack) -> Limits:
    from qhronos_core.adapters.local.limits import LocalLimits

    if settings.redis is None:
        return LocalLimits()
    from qhronos_core.adapters.redis.limits import RedisLimits

    limits = RedisLimits(settings.redis.dsn.get_secret_value())
    stack.push_async_callback(limits.aclose)
    return limits


async def _couriers(
    settings: Settings, stack: AsyncExitStack
) -> tuple[dict[ActionType, Courier], Callable[[Action], Awaitable[None]], "Hosts"]:
    """The ways out of the process, the courtesy check of a destination at creation, and how hard one may be knocked at."""
    from qhronos_core.adapters.http import hosts
    from qhronos_core.adapters.http.apicall import ApicallCourier
    from qhronos_core.adapters.http.egress import Egress
    from qhronos_core.adapters.http.webhook import WebhookCourier

    proxy = settings.egress.proxy_url
    egress = await stack.enter_async_context(
        Egress(
            _egress_policy(settings),
            proxy_url=proxy.get_secret_value() if proxy else None,
            per_address=settings.delivery.per_host,
        )
    )
    couriers: dict[ActionType, Courier] = {
        ActionType.WEBHOOK: WebhookCourier(egress, timeout=settings.delivery.timeout),
        ActionType.APICALL: ApicallCourier(egress, timeout=settings.delivery.timeout),
    }

    async def check(action: Action) -> None:
        if action.type in (ActionType.WEBHOOK, ActionType.APICALL):
            await egress.check(str(action.params["url"]), field="action.params.url")

    return (
        couriers,
        check,
        hosts.Hosts(
            settings.delivery.per_host, per_second=settings.delivery.per_host_per_second, address_of=egress.address_of
        ),
    )


async def _callbacks(settings: Settings, stack: AsyncExitStack) -> Callbacks:
    """Where MCP Events may call back."""
    from qhronos_core.adapters.http.callbacks import EgressCallbacks, hardened, lifted
    from qhronos_core.adapters.http.egress import Egress

    proxy = settings.egress.proxy_url
    origins = settings.events.dev_origins
    policy = hardened(_egress_policy(settings))
    outside = Egress(
        policy, proxy_url=proxy.get_secret_value() if proxy else None, per_address=settings.delivery.per_host
    )
    development = Egress(lifted(policy, origins), per_address=settings.delivery.per_host)
    return EgressCallbacks(
        await stack.enter_async_context(outside), await stack.enter_async_context(development), policy, origins
    )


def _say_what_is_lifted(settings: Settings) -> None:
    """Loudly (S30): whoever may schedule can reach these from here on."""
    egress, origins = settings.egress, settings.events.dev_origins
    if egress.allow_loopback:
        _log.warning("egress_may_call_this_machine")
    if egress.allow_networks:
        _log.warning("egress_may_call_private_networks", count=len(egress.allow_networks))
    if egress.allow_http:
        _log.warning("egress_may_call_without_tls")
    if origins:
        _log.warning("events_dev_origins_may_be_called_back", count=len(origins))


def _egress_policy(settings: Settings) -> "EgressPolicy":
    """What configuration lifts of the deny list; this server's own addresses are never called."""
    from ipaddress import ip_address

    from qhronos_core.domain.destination import EgressPolicy

    server, egress = settings.server, settings.egress
    own_hosts = {(server.host, server.port)}
    if server.public_url is not None:
        public = urlsplit(server.public_url)
        own_hosts.add((public.hostname or "", public.port or (443 if public.scheme == "https" else 80)))
    own_addresses = set()
    with suppress(ValueError):
        own_addresses.add((ip_address(server.host), server.port))
    return EgressPolicy(
        allow_http=egress.allow_http,
        allow_loopback=egress.allow_loopback,
        allow_networks=tuple(egress.allow_networks),
        ports=frozenset(egress.ports),
        own_addresses=frozenset(own_addresses),
        own_hosts=frozenset(own_hosts),
    )
