"""Everything an operator may set, read once into one typed object.

A value comes from the environment, else from `config.yaml`, else from the default below. A key `section.name` is
`QHRONOS_SECTION__NAME` in the environment; an empty variable counts as unset, an empty key of the file likewise.
What is wrong is told in one line that names the key and never repeats a value, since any value may be a secret.

    settings = load(None, os.environ)       # refuses weak and missing secrets
    settings.server.require_guarded_bind()  # before listening
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from qhronos_core.domain.errors import StartRefusedError

SAMPLE_SECRETS: Final = frozenset(
    {
        "your-secure-master-token",
        "your-secure-jwt-secret",
        "your-master-token-here",
        "your-jwt-secret-here",
    }
)
_SECRET_BYTES: Final = 32
_IN_A_HEADER: Final = re.compile(r"[!-~]+")
_HOST: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)(?::(?:[0-9]{1,5}|\*))?"
)
_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@*]+/?")
_MAKE_ONE: Final = "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"

_PREFIX: Final = "QHRONOS_"
_SHORT_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "QHRONOS_DATA_DIR": ("data_dir",),
    "QHRONOS_MASTER_TOKEN": ("auth", "master_token"),
    "QHRONOS_JWT_SECRET": ("auth", "jwt_secret"),
    "DATABASE_URL": ("database", "url"),
    "REDIS_URL": ("redis", "url"),
}


_PARTS: Final = (["host"], ["port"], ["user"], ["password"], ["dbname"], ["db"])  # of a connection


class ConfigError(StartRefusedError):
    """The configuration will not do. The text is one line that names the key and holds no value."""


# --- how a value is written -----------------------------------------------------------------------


def _duration(value: object) -> timedelta:
    """A length of time as everywhere else: `90s`, `1h30m`, `3660d`, `PT15M`; not zero, and no bare number."""
    from qhronos_core.domain.schedule.durations import read_duration

    length = value if isinstance(value, timedelta) else read_duration(value)
    if not isinstance(length, timedelta) or length <= timedelta(0):
        raise ValueError("must be a length of time such as 15s, 1h30m, 30d or PT15M")
    return length


def _attempt_deadline(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= timedelta(seconds=30):
        raise ValueError("must be 1s to 30s")
    return value


def _listed(value: object) -> object:
    """In the environment a list is written with commas or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _from_json(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _mapped(value: object) -> object:
    """In the environment a mapping is written as JSON; YAML reads a key like `1` as a number."""
    value = _from_json(value) if isinstance(value, str) else value
    return {str(key): entry for key, entry in value.items()} if isinstance(value, Mapping) else value


def _from_json(text: str) -> object:
    import json

    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("must be well-formed JSON") from None


def _without_brackets(value: object) -> object:
    """An IPv6 address to bind, also as it is written in a URL."""
    return value[1:-1] if isinstance(value, str) and value.startswith("[") and value.endswith("]") else value


def _host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_HOST.fullmatch(name) for name in names):
        raise ValueError(
            "must hold names or addresses as they come in `Host`, such as qhronos.example.org, 10.1.2.3:8080 or [::1]"
        )
    return names


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must hold exact origins such as https://page.example.org")
    return origins


def _in_a_header(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not _IN_A_HEADER.fullmatch(secret.get_secret_value()):
        raise ValueError("must be visible ASCII without spaces, to travel in a header")
    return secret


def _network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("must hold addresses or networks such as 10.1.0.0/16, without host bits") from None


def _no_blank(value: object) -> object:
    """An empty secret is none; `password: ""` is how the seed's file says so."""
    return None if value == "" else value


def _web_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be an address such as https://qhronos.example.org, without credentials or query")
    return value.rstrip("/")


def _proxy_url(value: object) -> object:
    if not isinstance(value, str) or not value:
        return value
    try:
        parts = urlsplit(value)
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("must name a host, as in http://proxy.example:3128")
    return value


def _url_of(*schemes: str) -> Callable[[object], object]:
    def checked(value: object) -> object:
        if isinstance(value, str) and value and value.partition("://")[0] not in schemes:
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return checked


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_listed)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Secret = Annotated[SecretStr | None, BeforeValidator(_no_blank)]
WebUrl = Annotated[str, BeforeValidator(_web_url)]


# --- what may be set --------------------------------------------------------------------------------


class Section(BaseModel):
    """Frozen; a key that is not there is refused; no error text holds the input."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, field: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[field.field_name or ""].annotation is int:
            raise ValueError("must be a whole number")
        return value


class ServerSettings(Section):
    port: Annotated[int, Field(ge=0, le=65_535, description="Serves REST, MCP and the page; 0: any.")] = 8080
    host: Annotated[
        str, Field(min_length=1, description="The address to bind."), BeforeValidator(_without_brackets)
    ] = "127.0.0.1"
    public_url: Annotated[
        WebUrl | None, Field(description="How others reach this server, through a proxy with TLS.")
    ] = None
    allowed_hosts: Annotated[
        Names,
        AfterValidator(_host_names),
        Field(description="Names in `Host`; none: localhost and that of public_url."),
    ] = ()
    allowed_origins: Annotated[
        Names, AfterValidator(_origins), Field(description="Exact origins of web pages that may call.")
    ] = ()
    trusted_proxies: Annotated[Networks, Field(description="Whose X-Forwarded-For is believed.")] = ()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def require_guarded_bind(self, *, insecure_http: bool = False) -> None:
        """Refuse to listen for other machines in clear text unless told to, and never for any `Host`.

        Raises:
            ConfigError: `server.host` is not loopback, and what guards it is missing.
        """
        if self.loopback:
            return
        if not insecure_http and not (self.public_url or "").startswith("https://"):
            raise ConfigError(
                "server.host lets other machines connect, and tokens would travel in clear text: set server.public_url"
                " to the https:// address of the proxy in front, or say --insecure-http"
            )
        if not self.allowed_hosts and self.public_url is None:
            raise ConfigError(
                "server.allowed_hosts must name the hosts this server answers to, since server.host lets other"
                " machines connect"
            )


class DatabaseSettings(Section):
    host: Annotated[str, Field(min_length=1, description="A name, an address, a socket's path.")] = "localhost"
    port: Annotated[Port, Field(description="Its port.")] = 5433
    user: Annotated[str, Field(min_length=1, description="Its role.")] = "postgres"
    password: Annotated[Secret, Field(description="The role's password.")] = SecretStr("postgres")
    dbname: Annotated[str, Field(min_length=1, description="The database.")] = "qhronos"
    url: Annotated[
        Secret,
        BeforeValidator(_url_of("postgresql", "postgres")),
        Field(description="All of these in one, postgresql://...; it takes their place."),
    ] = None
    pool: Annotated[int, Field(ge=1, le=1000, description="Most connections of this node for its callers.")] = 10
    dispatch_pool: Annotated[
        int, Field(ge=1, le=100, description="Connections for dispatching alone, kept open; callers cannot take them.")
    ] = 2
    prepare_threshold: Annotated[
        int, Field(ge=0, description="A statement is prepared once used so often; 0: never, as PgBouncer may need.")
    ] = 5
    migrate: Annotated[
        bool, Field(description="Whether a node brings the schema up to date by itself; else `qhronos migrate` does.")
    ] = True

    @property
    def dsn(self) -> SecretStr:
        """The connection as a URL, for the driver only."""
        if self.url is not None:
            return self.url
        credentials = quote(self.user, safe="") + _password_part(self.password)
        return SecretStr(
            f"postgresql://{credentials}@{_host_part(self.host)}:{self.port}/{quote(self.dbname, safe='')}"
        )


class RedisSettings(Section):
    host: Annotated[str, Field(min_length=1, description="Where Redis is.")] = "localhost"
    port: Annotated[Port, Field(description="Its port.")] = 6379
    password: Annotated[Secret, Field(description="Its password, if it has one.")] = None
    db: Annotated[int, Field(ge=0, description="The number of its database.")] = 0
    url: Annotated[
        Secret,
        BeforeValidator(_url_of("redis", "rediss", "unix")),
        Field(description="All of these in one, redis://...; it takes their place."),
    ] = None

    @property
    def dsn(self) -> SecretStr:
        """The connection as a URL, for the driver only."""
        if self.url is not None:
            return self.url
        credentials = f"{_password_part(self.password)}@" if self.password else ""
        return SecretStr(f"redis://{credentials}{_host_part(self.host)}:{self.port}/{self.db}")


class AuthSettings(Section):
    master_token: Annotated[Secret, Field(description="Mints and revokes tokens; at least 32 bytes.")] = None
    jwt_secret: Annotated[Secret, Field(description="Signs tokens; at least 32 bytes.")] = None
    key_id: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="The name of jwt_secret in a token's `kid`.")
    ] = "1"
    previous_secrets: Annotated[
        Mapping[str, SecretStr],
        BeforeValidator(_mapped),
        Field(description="Earlier secrets by key id; tokens they signed still verify."),
    ] = Field(default_factory=dict)
    jwt_issuer: Annotated[str, Field(min_length=1, description="`iss` of every token.")] = "qhronos"
    jwt_audience: Annotated[str, Field(min_length=1, description="`aud` of every token.")] = "qhronos"
    max_token_life: Annotated[Duration, Field(description="The longest a minted token may live.")] = timedelta(
        days=3660
    )
    master_may_use_api: Annotated[
        bool, Field(description="Whether the master token may do more than mint and revoke.")
    ] = True
    local_sub: Annotated[
        str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,128}$", description="Who the owner of a stdio process is.")
    ] = "local"
    at_rest_key: Annotated[
        Secret, Field(description="Encrypts stored secrets: 32 bytes as URL-safe base64. PostgreSQL: else derived.")
    ] = None
    previous_at_rest_keys: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(_listed),
        Field(description="Other at-rest keys: what they encrypted still opens, until it is encrypted anew."),
    ] = ()


class SchedulerSettings(Section):
    enabled: Annotated[bool, Field(description="Whether this process claims and sends, or only serves.")] = True
    lease: Annotated[Duration, Field(description="How long a claim holds.")] = timedelta(minutes=1)
    poll: Annotated[Duration, Field(description="Longest sleep without a signal.")] = timedelta(seconds=1)
    batch: Annotated[int, Field(ge=1, le=1000, description="Most occurrences in one claim.")] = 100
    late_grace: Annotated[Duration, Field(description="How late an occurrence may be and still not be missed.")] = (
        timedelta(minutes=1)
    )
    min_interval: Annotated[Duration, Field(description="Least distance of two runs of an event.")] = timedelta(
        seconds=1
    )


class DeliverySettings(Section):
    timeout: Annotated[
        Duration, AfterValidator(_attempt_deadline), Field(description="Deadline of an attempt, 1s to 30s.")
    ] = timedelta(seconds=15)
    concurrency: Annotated[
        int, Field(ge=1, le=10_000, description="Most attempts at once; a tenth of them is kept for creators with few.")
    ] = 200
    per_host: Annotated[int, Field(ge=1, le=10_000, description="Most attempts at once at one receiver.")] = 10
    per_host_per_second: Annotated[
        int,
        Field(ge=0, le=10_000, description="Most attempts a node begins at one receiver in a second; 0: any number."),
    ] = 0
    drain: Annotated[Duration, Field(description="How long a stopping node waits for attempts under way.")] = timedelta(
        seconds=35
    )


class InboxSettings(Section):
    task_wait: Annotated[Duration, Field(description="How long a wait that runs as an MCP task lasts.")] = timedelta(
        hours=24
    )


class EventsSettings(Section):
    webhook_id: Annotated[
        Literal["event", "message"], Field(description="`webhook-id` of an MCP event: its id, or one per message.")
    ] = "event"
    error_codes: Annotated[Literal["sep", "sketch"], Field(description="Which numbers MCP Events errors carry.")] = (
        "sep"
    )
    max_subscriptions: Annotated[int, Field(ge=0, description="Most live subscriptions of one principal.")] = 1000
    ttl: Annotated[Duration, Field(description="How long a subscription is granted.")] = timedelta(hours=24)
    dev_origins: Annotated[Names, Field(description="Exact origins that may be called back without https.")] = ()


class EgressSettings(Section):
    allow_http: Annotated[bool, Field(description="Whether http:// is allowed, and port 80.")] = False
    allow_loopback: Annotated[bool, Field(description="Whether this machine may be called; for demos and tests.")] = (
        False
    )
    allow_networks: Annotated[Networks, Field(description="Private networks that may be called.")] = ()
    ports: Annotated[
        tuple[Port, ...], BeforeValidator(_listed), Field(description="Ports that may be called besides 443.")
    ] = ()
    proxy_url: Annotated[
        Secret,
        BeforeValidator(_proxy_url),
        BeforeValidator(_url_of("http", "https")),
        Field(description="An egress proxy that all requests go through."),
    ] = None


_PerMinute = Annotated[int, Field(ge=0, description="Requests a minute; 0 is no limit.")]
_Burst = Annotated[int, Field(ge=1, description="Requests at once.")]


class RateLimit(Section):
    per_minute: _PerMinute = 200
    burst: _Burst = 50


class MasterRateLimit(RateLimit):
    per_minute: _PerMinute = 1000
    burst: _Burst = 200


class AdminRateLimit(RateLimit):
    per_minute: _PerMinute = 500
    burst: _Burst = 100


class RateLimitSettings(Section):
    master: MasterRateLimit = MasterRateLimit()
    admin: AdminRateLimit = AdminRateLimit()
    read_write: RateLimit = RateLimit()


class RetentionSettings(Section):
    occurrences: Annotated[Duration, Field(description="How long ended occurrences are kept.")] = timedelta(days=30)
    attempts: Annotated[Duration, Field(description="How long their attempts are kept.")] = timedelta(days=30)
    journal: Annotated[Duration, Field(description="How long the journal is kept.")] = timedelta(days=30)
    deleted_events: Annotated[Duration, Field(description="How long deleted events are kept.")] = timedelta(days=30)


class QuotaSettings(Section):
    events: Annotated[int, Field(ge=1, description="Live events of one `sub` with a write token.")] = 10_000
    runs_per_day: Annotated[int, Field(ge=1, description="Their planned runs a day.")] = 100_000


class LogSettings(Section):
    level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="The least that is logged.")] = (
        "info"
    )
    format: Annotated[Literal["json", "console"], Field(description="For machines, or for people.")] = "json"


class MetricsSettings(Section):
    token: Annotated[
        Secret, AfterValidator(_in_a_header), Field(description="A bearer that opens /metrics and nothing else.")
    ] = None


class Settings(Section):
    """All of it. `wiring` reads it once and hands each part its own piece."""

    server: ServerSettings = ServerSettings()
    database: Annotated[
        DatabaseSettings | None, Field(description="PostgreSQL; absent: the embedded store in data_dir.")
    ] = None
    redis: Annotated[
        RedisSettings | None, Field(description="Signals and limits between nodes; absent: in process.")
    ] = None
    auth: AuthSettings = AuthSettings()
    data_dir: Annotated[Path, Field(description="The embedded store and its secrets.")]
    scheduler: SchedulerSettings = SchedulerSettings()
    delivery: DeliverySettings = DeliverySettings()
    inbox: InboxSettings = InboxSettings()
    events: EventsSettings = EventsSettings()
    egress: EgressSettings = EgressSettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    retention: RetentionSettings = RetentionSettings()
    quotas: QuotaSettings = QuotaSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()

    @property
    def embedded(self) -> bool:
        """Whether the store is the SQLite file in `data_dir`."""
        return self.database is None

    @property
    def lease_is_short(self) -> bool:
        """Whether an attempt may outlast its claim, and the occurrence then be sent a second time beside it."""
        return self.scheduler.lease <= self.delivery.timeout


# --- reading it -------------------------------------------------------------------------------------


def load(path: Path | None, environ: Mapping[str, str], *, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a node that may start.

    The file is `path`, else that of `QHRONOS_CONFIG`, else `config.yaml` in the working directory if there is one.
    `flags` are a command line's, as in the file (`{"server": {"port": 9000}}`); they win over everything.

    Raises:
        ConfigError: a value or key is wrong, or a secret is weak, a sample, or missing where nodes must agree.
    """
    settings = read(path, environ, flags=flags)
    _refuse_weak_secrets(settings)
    return settings


def read(path: Path | None, environ: Mapping[str, str], *, flags: Mapping[str, Any] | None = None) -> Settings:
    """As `load`, but secrets are not judged: for commands that start no node."""
    file = _file(path, environ)
    values = _values_in(file) if file is not None else {}
    told_by: dict[tuple[str, ...], str] = {}
    for variable, key in _variables(environ):
        _put(values, key, _text(variable, environ[variable]))
        told_by[key] = variable
    for key, value in _leaves(flags or {}):
        _put(values, key, value)
        told_by[key] = f"--{key[-1]}"
    _refuse_silenced(values, told_by, file)
    values["data_dir"] = _data_dir(values.get("data_dir"), file if ("data_dir",) not in told_by else None, environ)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_told(error, told_by, file)) from None


def _file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or (Path(environ["QHRONOS_CONFIG"]) if environ.get("QHRONOS_CONFIG") else None)
    if named is None:
        return Path("config.yaml") if _is_file(Path("config.yaml")) else None
    if not _is_file(named):
        raise ConfigError(f"{named}: there is no such configuration file")
    return named


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _values_in(file: Path) -> dict[str, Any]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        if (line := _repeated(yaml.compose(text, Loader=yaml.SafeLoader))) is not None:
            raise ConfigError(f"{file}: line {line} repeats a key of its section")
        content = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}: line {line} is not well-formed YAML") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file}: is not well-formed YAML") from None
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{file}: must hold keys such as `server:`")
    return _without_empty(content or {})


def _repeated(node: Any) -> int | None:
    """The first line where a section has a key again. YAML would take the last and say nothing of the rest."""
    if node is None or node.id != "mapping":
        return None
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            return int(key.start_mark.line) + 1
        if isinstance(key.value, str):
            seen.add(key.value)
        if (line := _repeated(value)) is not None:
            return line
    return None


def _without_empty(section: Mapping[object, object]) -> dict[str, Any]:
    return {
        str(key): _without_empty(value) if isinstance(value, dict) else value
        for key, value in section.items()
        if value is not None
    }


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variables that set something, short names first, so that the long ones win.

    A name without `__` sets nothing unless it is a short one: QHRONOS_TOKEN is none of ours, nor are those that
    Kubernetes makes for a service called qhronos.
    """
    yield from ((name, key) for name, key in _SHORT_NAMES.items() if environ.get(name))
    for name in sorted(environ):
        if name.startswith(_PREFIX) and "__" in name and environ[name]:
            yield name, tuple(name.removeprefix(_PREFIX).lower().split("__"))


def _text(variable: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{variable}: is not UTF-8 text") from None
    return value


def _refuse_silenced(values: Mapping[str, Any], told_by: Mapping[tuple[str, ...], str], file: Path | None) -> None:
    """The environment wins over the file; a part of a connection told there would lose to the whole of it told here."""
    for (section, *rest), variable in told_by.items():
        whole = (section, "url")
        parts = values.get(section)
        if section not in {"database", "redis"} or rest[:1] not in _PARTS or whole in told_by:
            continue
        if isinstance(parts, Mapping) and parts.get("url"):
            instead = next(name for name, key in _SHORT_NAMES.items() if key == whole)
            raise ConfigError(f"{variable}: {section}.url in {file} takes its place; set {instead}, or remove that")


def _put(values: dict[str, Any], key: Sequence[str], value: object) -> None:
    *sections, last = key
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{section}: must be a section with keys of its own")
        values = inner
    values[last] = value


def _leaves(flags: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in flags.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        elif value is not None:
            yield (*above, name), value


def _data_dir(told: object, file: Path | None, environ: Mapping[str, str]) -> Path:
    """What is told in a file is relative to that file; by default it is where the system keeps a user's data."""
    if told not in (None, "") and (not isinstance(told, str | Path) or "\0" in str(told)):
        raise ConfigError("data_dir: must be a path")
    if isinstance(told, str | Path) and told != "":
        directory = _at_home(Path(told), environ)
        try:
            return (file.parent / directory if file is not None else directory).absolute()
        except FileNotFoundError:
            raise ConfigError("data_dir: is relative, and the working directory is gone") from None
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or _at_home(Path("~/AppData/Local"), environ), "qhronos")
    if environ.get("XDG_DATA_HOME"):
        return Path(environ["XDG_DATA_HOME"], "qhronos").absolute()
    base = "~/Library/Application Support" if sys.platform == "darwin" else "~/.local/share"
    return _at_home(Path(base), environ) / "qhronos"


def _at_home(path: Path, environ: Mapping[str, str]) -> Path:
    if path.parts[:1] != ("~",):
        return path
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if not home:
        raise ConfigError("data_dir: this user has no home directory; set QHRONOS_DATA_DIR")
    return Path(home, *path.parts[1:])


def _host_part(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")


def _password_part(password: SecretStr | None) -> str:
    return f":{quote(password.get_secret_value(), safe='')}" if password else ""


# --- saying what is wrong -----------------------------------------------------------------------------


def _told(error: ValidationError, told_by: Mapping[tuple[str, ...], str], file: Path | None) -> str:
    """One line for all that is wrong. Built from places and kinds only: pydantic's own text may hold the input."""
    complaints: dict[str, None] = {}
    for detail in error.errors(include_url=False, include_context=True, include_input=False):
        key, section = _key_of(detail["loc"])
        variable = next((told_by[key[:n]] for n in range(len(key), 0, -1) if key[:n] in told_by), None)
        where = variable or ".".join(key) + (f" in {file}" if file else "")
        if detail["type"] == "extra_forbidden":
            nearest = (*key[:-1], _nearest(key[-1], section))
            known = _PREFIX + "__".join(nearest).upper() if variable else ".".join(nearest)
            complaints[f"{where}: there is no such key; the nearest is {known}"] = None
        else:
            complaints[f"{where}: {_reason(detail)}"] = None
    return "; ".join(complaints)


def _key_of(location: tuple[int | str, ...]) -> tuple[tuple[str, ...], type[Section]]:
    """The key a validation error is about, without the places inside its value, and the section it stands in."""
    section: type[Section] = Settings
    key: list[str] = []
    for part in location:
        key.append(str(part))
        inner = _section_at(section, str(part))
        if inner is None:
            break
        section = inner
    return tuple(key), section


def _section_at(section: type[Section], name: str) -> type[Section] | None:
    field = section.model_fields.get(name)
    if field is None:
        return None
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def _nearest(name: str, section: type[Section]) -> str:
    from difflib import get_close_matches

    return get_close_matches(name, section.model_fields, n=1, cutoff=0.0)[0]


def _reason(detail: Mapping[str, Any]) -> str:
    kind: str = detail["type"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is needed"
    if kind in {"model_type", "model_attributes_type"}:
        return "must be a section with keys of its own"
    if kind.startswith("int"):
        return "must be a whole number"
    if kind.startswith("bool"):
        return "must be true or false"
    if kind == "string_type":
        return "must be text; write it in quotes"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "tuple_type":
        return "must be a list"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    for bound, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if bound in context:
            return f"must be {word} {context[bound]}"
    return "has the wrong form"


# --- secrets that may not be used -----------------------------------------------------------------------


def _refuse_weak_secrets(settings: Settings) -> None:
    auth = settings.auth
    for name, secret in (("auth.master_token", auth.master_token), ("auth.jwt_secret", auth.jwt_secret)):
        if secret is not None:
            _refuse_weak(name, secret.get_secret_value())
        elif not settings.embedded:
            raise ConfigError(f"{name} is needed with PostgreSQL, since all nodes must agree on it. {_MAKE_ONE}")
    if auth.master_token is not None and not _IN_A_HEADER.fullmatch(auth.master_token.get_secret_value()):
        raise ConfigError(f"auth.master_token must be visible ASCII without spaces, to travel in a header. {_MAKE_ONE}")
    if auth.master_token is not None and auth.master_token == auth.jwt_secret:
        raise ConfigError(f"auth.master_token and auth.jwt_secret are equal; one of them must change. {_MAKE_ONE}")
    for key_id, previous in auth.previous_secrets.items():
        _refuse_weak("auth.previous_secrets", previous.get_secret_value())
        if key_id == auth.key_id or previous == auth.jwt_secret:
            raise ConfigError(
                "auth.previous_secrets holds the current auth.jwt_secret or auth.key_id; keep only earlier ones there"
            )
    if auth.at_rest_key is not None and not is_at_rest_key(auth.at_rest_key.get_secret_value()):
        raise ConfigError(f"auth.at_rest_key must be 32 bytes as URL-safe base64. {_MAKE_ONE}")
    for other in auth.previous_at_rest_keys:
        if not is_at_rest_key(other.get_secret_value()):
            raise ConfigError("auth.previous_at_rest_keys must hold keys of 32 bytes as URL-safe base64")
        if other == auth.at_rest_key:
            raise ConfigError("auth.previous_at_rest_keys holds the current auth.at_rest_key; keep only others there")


def _refuse_weak(name: str, secret: str) -> None:
    if secret in SAMPLE_SECRETS:
        raise ConfigError(f"{name} is a sample that everybody knows. {_MAKE_ONE}")
    if len(secret.encode()) < _SECRET_BYTES:
        raise ConfigError(f"{name} is shorter than {_SECRET_BYTES} bytes. {_MAKE_ONE}")
    if len(set(secret)) == 1:
        raise ConfigError(f"{name} is one character repeated. {_MAKE_ONE}")


def is_at_rest_key(text: str) -> bool:
    """Whether this is 32 bytes in URL-safe base64, padded or not."""
    return re.fullmatch(r"[A-Za-z0-9_-]{43}=?", text) is not None
