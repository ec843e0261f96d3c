"""Configuration: one typed object, told in the file or the environment, refused in one line that holds no value."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr

from qhronos_core.config import SAMPLE_SECRETS, ConfigError, Section, Settings, load, read

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
TOKEN = "a-master-token-of-more-than-32-bytes"
SECRET = "a-signing-secret-of-more-than-32-bytes"
HOME = {"HOME": "/home/someone"}
ENOUGH = {**HOME, "QHRONOS_MASTER_TOKEN": TOKEN, "QHRONOS_JWT_SECRET": SECRET}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without a config.yaml of anyone."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def refused(environ: Mapping[str, str], path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the example ------------------------------------------------------------------------------------


def sections_of(settings: type[Section]) -> Iterator[tuple[str, Any, type[Section] | None]]:
    for name, field in settings.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        yield name, field, inner


def keys_of(settings: type[Section], above: str = "") -> Iterator[str]:
    for name, _, inner in sections_of(settings):
        yield from [f"{above}{name}"] if inner is None else keys_of(inner, f"{above}{name}.")


def keys_in(shown: Mapping[str, Any], settings: type[Section], above: str = "") -> Iterator[str]:
    inner_of = {name: inner for name, _, inner in sections_of(settings)}
    for name, value in shown.items():
        inner = inner_of.get(name)
        yield from [f"{above}{name}"] if inner is None else keys_in(value, inner, f"{above}{name}.")


def test_the_example_shows_every_key_there_is_and_no_other() -> None:
    assert set(keys_in(yaml.safe_load(EXAMPLE.read_text()), Settings)) == set(keys_of(Settings))


def test_the_example_shows_the_seeds_keys_first() -> None:
    shown = yaml.safe_load(EXAMPLE.read_text())
    assert list(shown)[:4] == ["server", "database", "redis", "auth"]
    assert next(iter(shown["server"])) == "port"
    assert list(shown["database"])[:5] == ["host", "port", "user", "password", "dbname"]
    assert list(shown["redis"])[:4] == ["host", "port", "password", "db"]
    assert list(shown["auth"])[:2] == ["master_token", "jwt_secret"]


def test_each_value_of_the_example_is_the_default() -> None:
    shown = read(EXAMPLE, HOME)
    assert shown.database is not None
    assert shown.redis is not None
    defaults = Settings.model_validate({"data_dir": shown.data_dir, "database": {}, "redis": {}})
    secrets = {"master_token": None, "jwt_secret": None}
    assert shown.model_copy(update={"auth": shown.auth.model_copy(update=secrets)}) == defaults


def test_each_key_of_the_example_has_a_comment() -> None:
    keys = [line for line in EXAMPLE.read_text().splitlines() if line.startswith("  ") and ":" in line.split("#")[0]]
    assert [line for line in keys if "#" not in line and not line.rstrip().endswith(":")] == []


def test_each_field_says_what_it_is() -> None:
    def silent(settings: type[Section]) -> Iterator[str]:
        for name, field, inner in sections_of(settings):
            if inner is not None:
                yield from silent(inner)
            elif not field.description:
                yield f"{settings.__name__}.{name}"

    assert list(silent(Settings)) == []


def test_the_example_as_it_stands_is_refused_with_how_to_make_a_secret() -> None:
    said = refused(HOME, EXAMPLE)
    assert said.startswith("auth.master_token")
    assert "secrets.token_urlsafe(32)" in said


def test_the_example_with_its_two_secrets_replaced_starts() -> None:
    settings = load(EXAMPLE, ENOUGH)
    assert settings.database is not None
    assert settings.database.dsn.get_secret_value() == "postgresql://postgres:postgres@localhost:5433/qhronos"
    assert settings.redis is not None
    assert settings.redis.dsn.get_secret_value() == "redis://localhost:6379/0"


# --- where a value comes from -------------------------------------------------------------------------


def test_with_nothing_told_the_store_is_embedded_in_the_users_data_directory() -> None:
    settings = load(None, HOME)
    assert settings.embedded
    assert settings.redis is None
    assert settings.data_dir.parts[:3] == ("/", "home", "someone")
    assert settings.auth.master_token is None


def test_the_environment_wins_over_the_file_and_flags_over_both(file: Path) -> None:
    file.write_text("server: {port: 1001, host: localhost}\n")
    environ = {**HOME, "QHRONOS_SERVER__PORT": "1002"}
    assert load(file, HOME).server.port == 1001
    assert load(file, environ).server.port == 1002
    told = load(file, environ, flags={"server": {"port": 1003, "host": None}})
    assert (told.server.port, told.server.host) == (1003, "localhost")


def test_the_file_is_the_given_one_else_that_of_the_environment_else_config_yaml_here(
    file: Path, tmp_path: Path
) -> None:
    file.write_text("server: {port: 1001}\n")
    named = tmp_path / "named.yaml"
    named.write_text("server: {port: 1002}\n")
    (tmp_path / "config.yaml").write_text("server: {port: 1003}\n")
    environ = {**HOME, "QHRONOS_CONFIG": str(named)}
    assert load(file, environ).server.port == 1001
    assert load(None, environ).server.port == 1002
    assert load(None, HOME).server.port == 1003


def test_a_named_file_that_is_not_there_is_refused() -> None:
    assert "nowhere.yaml" in refused({**HOME, "QHRONOS_CONFIG": "nowhere.yaml"})


def test_short_names_set_what_their_long_names_do_and_the_long_ones_win() -> None:
    environ = {
        **HOME,
        "QHRONOS_MASTER_TOKEN": TOKEN,
        "QHRONOS_JWT_SECRET": SECRET,
        "QHRONOS_DATA_DIR": "/srv/qhronos",
        "DATABASE_URL": "postgresql://a:b@db/q",
        "REDIS_URL": "redis://cache/1",
        "QHRONOS_REDIS__URL": "redis://cache/2",
    }
    settings = load(None, environ)
    assert settings.auth.master_token == SecretStr(TOKEN)
    assert settings.auth.jwt_secret == SecretStr(SECRET)
    assert settings.data_dir == Path("/srv/qhronos")
    assert settings.database is not None
    assert settings.database.dsn == SecretStr("postgresql://a:b@db/q")
    assert settings.redis is not None
    assert settings.redis.dsn == SecretStr("redis://cache/2")


@pytest.mark.parametrize("ours", ["QHRONOS_TOKEN", "QHRONOS_FAILPOINT", "QHRONOS_PORT", "QHRONOS_PORT_8080_TCP"])
def test_variables_that_set_nothing_are_left_alone(ours: str) -> None:
    assert load(None, {**HOME, ours: "tcp://10.0.0.1:8080"}) == load(None, HOME)


def test_an_empty_variable_and_an_empty_key_count_as_unset(file: Path) -> None:
    file.write_text("database:\nserver:\n  port:\nauth:\n  master_token: ''\ndata_dir: ''\n")
    settings = load(file, {**HOME, "DATABASE_URL": "", "QHRONOS_MASTER_TOKEN": "", "QHRONOS_SERVER__HOST": ""})
    assert settings == load(None, HOME)


def test_lists_in_the_environment_have_commas_or_are_json() -> None:
    settings = load(
        None,
        {
            **HOME,
            "QHRONOS_SERVER__ALLOWED_HOSTS": "a.example, b.example",
            "QHRONOS_SERVER__ALLOWED_ORIGINS": '["https://a.example"]',
            "QHRONOS_EGRESS__PORTS": "8443",
            "QHRONOS_EGRESS__ALLOW_NETWORKS": "10.1.0.0/16,fd00::/8",
            "QHRONOS_AUTH__PREVIOUS_SECRETS": f'{{"0": "{SECRET}"}}',
        },
    )
    assert settings.server.allowed_hosts == ("a.example", "b.example")
    assert settings.server.allowed_origins == ("https://a.example",)
    assert settings.egress.ports == (8443,)
    assert settings.egress.allow_networks == (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert settings.auth.previous_secrets == {"0": SecretStr(SECRET)}


def test_one_key_of_a_nested_section_leaves_its_neighbours_at_their_defaults() -> None:
    settings = load(None, {**HOME, "QHRONOS_RATE_LIMITS__MASTER__BURST": "7"})
    assert (settings.rate_limits.master.burst, settings.rate_limits.master.per_minute) == (7, 1000)
    assert (settings.rate_limits.admin.per_minute, settings.rate_limits.read_write.per_minute) == (500, 200)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("3660d", timedelta(days=3660)),
        ("2 hours", timedelta(hours=2)),
        ("PT1M", timedelta(minutes=1)),
        ("P1DT2H", timedelta(hours=26)),
        ("P2W", timedelta(days=14)),
    ],
)
def test_lengths_of_time(text: str, length: timedelta) -> None:
    assert load(None, {**HOME, "QHRONOS_SCHEDULER__LEASE": text}).scheduler.lease == length


@pytest.mark.parametrize(
    "text", ["60", "0s", "-1m", "1.5h", "P1M", "P1Y", "P", "PT", "P1DT", "1m1h", "one minute", "1 m 5"]
)
def test_what_is_no_length_of_time(text: str) -> None:
    assert "QHRONOS_SCHEDULER__LEASE: must be a length of time" in refused({**HOME, "QHRONOS_SCHEDULER__LEASE": text})


def test_a_relative_data_dir_of_a_file_is_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "q.yaml"
    file.write_text("data_dir: store\n")
    assert load(file, HOME).data_dir == tmp_path / "etc" / "store"
    assert load(file, {**HOME, "QHRONOS_DATA_DIR": "store"}).data_dir == tmp_path / "store"
    assert load(file, {**HOME, "QHRONOS_DATA_DIR": "~/store"}).data_dir == Path("/home/someone/store")


def test_without_a_home_the_data_dir_must_be_told() -> None:
    assert "QHRONOS_DATA_DIR" in refused({})


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"host": "::1", "user": "a b", "password": "p@/:%"}, "postgresql://a%20b:p%40%2F%3A%25@[::1]:5433/qhronos"),
        ({"host": "/run/postgresql", "password": ""}, "postgresql://postgres@%2Frun%2Fpostgresql:5433/qhronos"),
    ],
)
def test_a_connection_is_quoted(section: dict[str, str], expected: str, file: Path) -> None:
    file.write_text(yaml.safe_dump({"database": section}))
    database = load(file, ENOUGH).database
    assert database is not None
    assert database.dsn.get_secret_value() == expected


# --- what is refused ------------------------------------------------------------------------------------


WRONG = {
    "server: {prot: 1}": "server.prot in {file}: there is no such key; the nearest is server.port",
    "sever: {port: 1}": "sever in {file}: there is no such key; the nearest is server",
    "rate_limits: {admin: {bust: 1}}": (
        "rate_limits.admin.bust in {file}: there is no such key; the nearest is rate_limits.admin.burst"
    ),
    "logging: {level: info}": "logging in {file}: there is no such key; the nearest is log",
    "server: {port: http}": "server.port in {file}: must be a whole number",
    "server: {port: 65536}": "server.port in {file}: must be at most 65535",
    "server: 8080": "server in {file}: must be a section with keys of its own",
    "database: {password: 12345}": "database.password in {file}: must be text; write it in quotes",
    "delivery: {timeout: 31s}": "delivery.timeout in {file}: must be 1s to 30s",
    "log: {level: loud}": "log.level in {file}: must be 'debug', 'info', 'warning' or 'error'",
    "server: {public_url: 'https://me:secret@a.example'}": (
        "server.public_url in {file}: must be an address such as https://qhronos.example.org, without credentials or query"
    ),
    "database: {url: 'mysql://me:secret@a'}": "database.url in {file}: must begin with postgresql:// or postgres://",
    "- server": "{file}: must hold keys such as `server:`",
    "server: {port: 1\nauth: *secret": "{file}: line 2 is not well-formed YAML",
    "egress: {allow_networks: [10.0.0.1/8]}": (
        "egress.allow_networks in {file}: must hold addresses or networks such as 10.1.0.0/16, without host bits"
    ),
    "server: {port: true}": "server.port in {file}: must be a whole number",
    "server: {host: ''}": "server.host in {file}: must not be empty",
    "egress: {ports: 8443}": "egress.ports in {file}: must be a list",
    "server: {port: 1}\nserver: {host: localhost}": "{file}: line 2 repeats a key of its section",
    "egress:\n  allow_http: false\n  ports: []\n  allow_http: true": "{file}: line 4 repeats a key of its section",
    "egress: {proxy_url: 'http://me:secret@'}": "egress.proxy_url in {file}: must name a host, as in http://proxy.example:3128",
    "egress: {proxy_url: 'http://me:secret@[proxy'}": (
        "egress.proxy_url in {file}: must name a host, as in http://proxy.example:3128"
    ),
    "egress: {proxy_url: 'http://proxy:99999'}": (
        "egress.proxy_url in {file}: must name a host, as in http://proxy.example:3128"
    ),
    "metrics: {token: 'two words'}": (
        "metrics.token in {file}: must be visible ASCII without spaces, to travel in a header"
    ),
    'data_dir: "a\\0b"': "data_dir: must be a path",
}
NO_HOST = "must hold names or addresses as they come in `Host`, such as qhronos.example.org, 10.1.2.3:8080 or [::1]"
NO_ORIGIN = "must hold exact origins such as https://page.example.org"


@pytest.mark.parametrize("host", ["https://a.example", "a.example/", "*", "::1", "a.example:x", ""])
def test_a_host_that_no_request_can_name_is_refused(host: str, file: Path) -> None:
    file.write_text(yaml.safe_dump({"server": {"allowed_hosts": ["good.example", host]}}))
    assert refused(HOME, file) == f"server.allowed_hosts in {file}: {NO_HOST}"


@pytest.mark.parametrize("origin", ["a.example", "*", "null", "https://a.example/page", "https://*.a.example"])
def test_an_origin_that_no_browser_sends_is_refused(origin: str, file: Path) -> None:
    file.write_text(yaml.safe_dump({"server": {"allowed_origins": [origin]}}))
    assert refused(HOME, file) == f"server.allowed_origins in {file}: {NO_ORIGIN}"


def test_hosts_and_origins_have_these_forms(file: Path) -> None:
    hosts = ["A.example", "localhost:*", "10.1.2.3:8080", "[::1]", "[2001:db8::1]:443"]
    origins = ["https://a.example", "http://localhost:3000/", "chrome-extension://abcdef"]
    file.write_text(yaml.safe_dump({"server": {"allowed_hosts": hosts, "allowed_origins": origins}}))
    server = load(file, HOME).server
    assert (list(server.allowed_hosts), list(server.allowed_origins)) == (hosts, origins)


def test_a_flag_that_is_wrong_is_told_as_such(file: Path) -> None:
    file.write_text("server: {port: 1}\n")
    with pytest.raises(ConfigError, match=r"^--port: must be at most 65535$"):
        load(file, {**HOME, "QHRONOS_SERVER__PORT": "2"}, flags={"server": {"port": 65_536}})


@pytest.mark.parametrize("name", ["QHRONOS_MASTER_TOKEN", "QHRONOS_AUTH__JWT_SECRET", "QHRONOS_SERVER__HOST"])
def test_a_variable_that_is_no_text_is_refused(name: str) -> None:
    assert refused({**ENOUGH, name: "\udcff" * 40}) == f"{name}: is not UTF-8 text"


@pytest.mark.parametrize(
    ("section", "variable", "instead"),
    [
        ("database: {url: 'postgresql://a/q'}", "QHRONOS_DATABASE__HOST", "DATABASE_URL"),
        ("redis: {url: 'redis://a/1'}", "QHRONOS_REDIS__DB", "REDIS_URL"),
    ],
)
def test_a_variable_that_the_files_url_would_silence_is_refused(
    section: str, variable: str, instead: str, file: Path
) -> None:
    file.write_text(section)
    key = section.partition(":")[0]
    said = refused({**ENOUGH, variable: "7"}, file)
    assert said == f"{variable}: {key}.url in {file} takes its place; set {instead}, or remove that"
    assert load(file, {**ENOUGH, variable: "7", instead: f"{'postgresql' if key == 'database' else key}://b/2"})


def test_a_file_that_may_not_be_looked_for_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def may_not(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", may_not)
    assert refused(HOME, tmp_path / "q.yaml") == f"{tmp_path / 'q.yaml'}: cannot be read (Permission denied)"
    assert refused(HOME) == "config.yaml: cannot be read (Permission denied)"


def test_a_relative_data_dir_needs_a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "working directory is gone" in refused({**HOME, "QHRONOS_DATA_DIR": "store"})


@pytest.mark.parametrize(("content", "said"), WRONG.items(), ids=WRONG.keys())
def test_what_is_wrong_in_the_file_is_told_by_its_key(content: str, said: str, file: Path) -> None:
    file.write_text(content)
    assert refused(HOME, file) == said.format(file=file)


def test_what_is_wrong_in_the_environment_is_told_by_its_variable() -> None:
    said = refused({**HOME, "QHRONOS_SERVER__PROT": "1"})
    assert said == "QHRONOS_SERVER__PROT: there is no such key; the nearest is QHRONOS_SERVER__PORT"


def test_all_that_is_wrong_is_told_at_once(file: Path) -> None:
    file.write_text("server: {prot: 1}\nlog: {level: loud}\n")
    said = refused(HOME, file)
    assert "server.prot" in said
    assert "log.level" in said


@pytest.mark.parametrize("sample", sorted(SAMPLE_SECRETS))
@pytest.mark.parametrize("key", ["MASTER_TOKEN", "JWT_SECRET"])
def test_sample_secrets_are_refused(key: str, sample: str) -> None:
    said = refused({**ENOUGH, f"QHRONOS_{key}": sample})
    assert said.startswith(f"auth.{key.lower()} is a sample")
    assert "secrets.token_urlsafe(32)" in said


@pytest.mark.parametrize("weak", ["x" * 31, "x" * 40, "0123456789"])
@pytest.mark.parametrize("key", ["MASTER_TOKEN", "JWT_SECRET"])
def test_weak_secrets_are_refused(key: str, weak: str) -> None:
    said = refused({**ENOUGH, f"QHRONOS_{key}": weak})
    assert said.startswith(f"auth.{key.lower()} is ")
    assert weak not in said


def test_equal_secrets_are_refused() -> None:
    said = refused({**ENOUGH, "QHRONOS_JWT_SECRET": TOKEN})
    assert "auth.master_token and auth.jwt_secret are equal" in said


@pytest.mark.parametrize(
    "previous", [f'{{"0": "{SECRET}"}}', '{"1": "another-secret-of-more-than-32-bytes"}', '{"0": "short"}']
)
def test_a_previous_secret_that_is_the_current_one_or_weak_is_refused(previous: str) -> None:
    said = refused({**ENOUGH, "QHRONOS_AUTH__PREVIOUS_SECRETS": previous})
    assert said.startswith("auth.previous_secrets")


def test_a_master_token_that_cannot_travel_in_a_header_is_refused() -> None:
    assert "auth.master_token" in refused({**ENOUGH, "QHRONOS_MASTER_TOKEN": "a token with spaces, and more of them"})


def test_an_at_rest_key_of_another_size_is_refused() -> None:
    assert refused({**ENOUGH, "QHRONOS_AUTH__AT_REST_KEY": "dG9vIHNob3J0"}).startswith("auth.at_rest_key")


def test_earlier_at_rest_keys_are_keys_and_not_the_present_one() -> None:
    key, other = "A" * 43, "B" * 43
    environ = {**ENOUGH, "QHRONOS_AUTH__AT_REST_KEY": key, "QHRONOS_AUTH__PREVIOUS_AT_REST_KEYS": f"{other},{'C' * 43}"}
    assert load(None, environ).auth.previous_at_rest_keys == (SecretStr(other), SecretStr("C" * 43))
    for wrong in (key, "dG9vIHNob3J0"):
        said = refused({**environ, "QHRONOS_AUTH__PREVIOUS_AT_REST_KEYS": wrong})
        assert said.startswith("auth.previous_at_rest_keys")
        assert wrong not in said


@pytest.mark.parametrize("missing", ["QHRONOS_MASTER_TOKEN", "QHRONOS_JWT_SECRET"])
def test_with_postgresql_secrets_must_be_told_since_nodes_must_agree(missing: str) -> None:
    environ = {**ENOUGH, "DATABASE_URL": "postgresql://a:b@db/q"}
    assert load(None, environ).embedded is False
    said = refused({name: value for name, value in environ.items() if name != missing})
    assert said.startswith(f"auth.{missing.removeprefix('QHRONOS_').lower()} is needed")


def test_commands_that_start_no_node_read_what_load_refuses() -> None:
    assert read(EXAMPLE, HOME).database is not None


def test_no_refusal_and_no_repr_holds_a_secret(file: Path) -> None:
    canary = "c4n4ry" * 8
    file.write_text(
        yaml.safe_dump(
            {
                "auth": {
                    "master_token": canary,
                    "jwt_secret": canary,
                    "at_rest_key": canary,
                    "previous_at_rest_keys": [canary],
                    "previous_secrets": {"0": canary},
                },
                "database": {"password": canary},
                "redis": {"url": f"redis://:{canary}@cache"},
                "metrics": {"token": canary},
            }
        )
    )
    assert canary not in repr(read(file, HOME))
    assert canary not in refused(HOME, file)
    for faulty in ("url", "port", "nosuch"):
        assert canary not in refused({**HOME, f"QHRONOS_DATABASE__{faulty.upper()}": canary}, file)
    file.write_text(f"auth: {canary}\n")
    assert canary not in refused(HOME, file)
    file.write_text(f"auth: [{canary}\n*{canary}")
    assert canary not in refused(HOME, file)


# --- listening for other machines -------------------------------------------------------------------------


def bound(**server: Any) -> Settings:
    return load(None, HOME, flags={"server": server})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_guard(host: str) -> None:
    bound(host=host).server.require_guarded_bind()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "qhronos.example"])
@pytest.mark.parametrize("public_url", [None, "http://qhronos.example"])
def test_another_address_in_clear_text_is_refused(host: str, public_url: str | None) -> None:
    with pytest.raises(ConfigError, match=r"server\.public_url"):
        bound(host=host, public_url=public_url).server.require_guarded_bind()


def test_another_address_is_allowed_behind_tls_or_when_said_aloud() -> None:
    bound(host="0.0.0.0", public_url="https://qhronos.example").server.require_guarded_bind()
    bound(host="0.0.0.0", allowed_hosts=["box.example"]).server.require_guarded_bind(insecure_http=True)


def test_another_address_needs_the_names_it_answers_to() -> None:
    with pytest.raises(ConfigError, match=r"server\.allowed_hosts"):
        bound(host="0.0.0.0").server.require_guarded_bind(insecure_http=True)


# --- cost ---------------------------------------------------------------------------------------------------


def test_importing_it_loads_no_parser_driver_or_framework() -> None:
    program = "import sys, qhronos_core.config; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pydantic" in loaded
    assert not loaded & {
        "yaml",
        "pydantic_settings",
        "psycopg",
        "redis",
        "aiohttp",
        "starlette",
        "mcp",
        "asyncio",
    }
