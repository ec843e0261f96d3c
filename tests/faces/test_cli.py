"""`qhronos` on the command line: what the operator types, and what comes back."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qhronos_mcp import __version__, cli

ROOT = Path(__file__).parents[2]
SCOPE = ("--scope", "user:ann")


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Say":
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QHRONOS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(cli, "_logging", lambda _: None)  # the tests' own stays
    return Say(monkeypatch, capsys)


class Say:
    """Runs `qhronos` with these words: its exit code, what it printed, and what it said beside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["qhronos", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = self._capsys.readouterr()
        return code, said.out, said.err


def test_a_token_is_minted_listed_and_revoked(say: Say) -> None:
    code, token, _ = say("token", "mint", "--sub", "ann", *SCOPE, "--access", "read")
    assert code == 0
    assert token.count(".") == 2

    code, listed, _ = say("token", "list")
    jti, *rest = listed.split()
    assert (code, rest[:3]) == (0, ["ann", "read", "user:ann"])
    assert token.strip() not in listed

    code, revoked, _ = say("token", "revoke", jti)
    assert code == 0
    assert json.loads(revoked)["revoked_at"].endswith("Z")
    assert "revoked" in say("token", "list")[1]


def test_tokens_are_revoked_by_subject_or_by_when_they_were_issued(say: Say) -> None:
    say("token", "mint", "--sub", "ann", *SCOPE)
    say("token", "mint", "--sub", "bob", "--scope", "user:bob")
    assert say("token", "revoke", "--sub", "ann")[0] == 0
    rows = {line.split()[1]: "revoked" in line for line in say("token", "list")[1].splitlines()}
    assert rows == {"ann": True, "bob": False}
    assert say("token", "revoke", "--before", "2020-01-01T00:00:00Z")[0] == 0
    assert "revoked" not in next(line for line in say("token", "list")[1].splitlines() if " bob " in line)


def test_all_tokens_are_listed_however_many(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "AT_ONCE", 1)
    for sub in ("ann", "bob", "eve"):
        say("token", "mint", "--sub", sub)
    assert sorted(line.split()[1] for line in say("token", "list")[1].splitlines()) == ["ann", "bob", "eve"]


def test_a_token_that_lives_long_is_minted_with_a_word_beside_it(say: Say) -> None:
    say("migrate")
    until = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    code, token, beside = say("token", "mint", "--sub", "ann", *SCOPE, "--expires-at", until)
    assert (code, token.count(".")) == (0, 2)
    assert beside.startswith("note: ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("token", "revoke", "ann"), "qhronos: jti: Not a token's id. `qhronos token list` shows them."),
        (("token", "revoke", "01a2239a-e7ff-756a-acda-73b9fca44a09"), "qhronos: No such token."),
        (("token", "revoke"), "qhronos: jti: Name a token"),
        (("token", "revoke", "--before", "yesterday"), "qhronos: before: "),
        (("token", "mint", "--sub", "ann", "--scope", "bad"), "qhronos: scope.0: "),
        (("token", "mint", "--sub", "ann", "--access", "root"), "qhronos: access: One of read, write, admin."),
        (("secret", "no-such-event"), "qhronos: No such event."),
    ],
)
def test_what_cannot_be_done_is_one_line(say: Say, words: tuple[str, ...], told: str) -> None:
    say("migrate")
    code, _, beside = say(*words)
    assert code == 1
    assert beside.startswith(told)
    assert len(beside.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_where_what_it_says_finds_no_room_is_one_line(say: Say, tmp_path: Path) -> None:
    say("migrate")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qhronos_mcp", "doctor"],
            env={**os.environ, "QHRONOS_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, "qhronos: No space left on device\n")


def test_whoever_comes_first_is_told_what_was_made(say: Say, tmp_path: Path) -> None:
    code, token, beside = say("token", "mint", "--sub", "ann")
    assert (code, token.count(".")) == (0, 2)
    made = [str(tmp_path / "data" / "secrets" / name) for name in ("master_token", "jwt_secret", "at_rest_key")]
    assert beside.splitlines() == [f"note: made {path}" for path in made]
    assert say("token", "mint", "--sub", "ann")[2] == ""


def test_a_bad_configuration_is_one_line_and_exit_code_2(say: Say, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("servr:\n  port: 1\n")
    code, _, beside = say("token", "list")
    assert (code, beside.count("\n")) == (2, 1)
    assert "the nearest is server" in beside


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "redis://:c4n4ry@host:port"),
        ("REDIS_URL", "redis://:c4n4ry@host/name"),
        ("REDIS_URL", "redis://:c4n4ry@[host"),
        ("REDIS_URL", "redis://:c4n4ry@host?no_such_option=1"),
        ("DATABASE_URL", "postgresql://me:c4n4ry@[host"),
        ("DATABASE_URL", "postgresql://me:c4n4ry@host/q?no_such_option=1"),
    ],
)
def test_a_url_that_its_driver_does_not_understand_is_one_line_that_does_not_repeat_it(
    say: Say, monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    for variable in ("QHRONOS_MASTER_TOKEN", "QHRONOS_JWT_SECRET"):
        monkeypatch.setenv(variable, f"{variable}-of-more-than-32-bytes")
    monkeypatch.setenv(name, url)
    code, out, beside = say("token", "list")
    assert (code, out, beside.count("\n")) == (2, "", 1)
    assert f"({name}): the driver does not understand it" in beside
    assert "c4n4ry" not in beside
    monkeypatch.setattr("qhronos_mcp.doctor.unopened", lambda _: [])
    code, found, beside = say("doctor")
    assert (code, found.startswith(f"FIX  {name.partition('_')[0].lower()}"), beside) == (1, True, "")


def test_a_form_of_text_that_stdio_does_not_know_is_refused(say: Say) -> None:
    code, out, err = say("stdio", "--text", "lines")
    assert (code, out) == (2, "")
    assert "--text" in err


def test_it_tells_its_version(say: Say) -> None:
    assert say("--version") == (0, f"qhronos {__version__}\n", "")


def test_doctor_and_migrate_say_that_all_is_well(say: Say) -> None:
    code, applied, _ = say("migrate")
    assert (code, applied.splitlines()[0]) == (0, "applied 0001_events_occurrences_journal")
    assert say("migrate")[:2] == (0, "The schema is up to date.\n")
    code, found, _ = say("doctor")
    assert (code, [line for line in found.splitlines() if not line.startswith("ok ")]) == (0, [])


def everything_in(directory: Path) -> dict[str, bytes | None]:
    """But for what SQLite keeps beside a file that is open."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
        if not path.name.endswith(("-shm", "-wal"))
    }


@pytest.mark.parametrize("store", ["of this release", "of an earlier release", "empty"])
def test_doctor_changes_nothing_and_makes_nothing(say: Say, tmp_path: Path, store: str) -> None:
    say("migrate")
    data = tmp_path / "data"
    if store == "of an earlier release":
        with closing(sqlite3.connect(data / "qhronos.db", isolation_level=None)) as connection:
            connection.execute("DROP INDEX events_live_idx")
            connection.execute("DELETE FROM schema_migrations WHERE name = '0007_live_events'")
    if store == "empty":
        (data / "qhronos.db").write_bytes(b"")
    (data / "signals").rmdir()
    (data / "secrets" / ".lock").unlink()
    before = everything_in(data)

    code, found, _ = say("doctor")

    assert everything_in(data) == before
    if store == "of this release":
        assert code == 0
    else:
        assert code == 1
        assert "qhronos.db is of an earlier release, or was never finished. Nothing was changed." in found
        assert "`qhronos migrate`" in found
        assert "applied 0007_live_events\n" in say("migrate")[1]
        assert say("doctor")[0] == 0


def test_a_backup_that_was_put_back_is_said_so(say: Say) -> None:
    code, said, _ = say("restored")
    assert (code, "subscriptions go on" in said) == (0, True)
