"""A node on the embedded store whose disk, file or directory fails while it serves (F23, F25, F49, F57, F62, F63, F24)."""

import asyncio
import ctypes
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest

from tests.faults.rig.checker import Wanted
from tests.faults.rig.disks import DiskMissingError, Switch, faults_of
from tests.faults.rig.nodes import ROOT, Cluster, Node, a_cluster
from tests.faults.rig.odd_nodes import started
from tests.faults.rig.receiver import Receiver
from tests.faults.test_kills import all_finished, soon, verdict_on, webhook


@pytest.fixture
def database_url() -> None:
    return None


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    return Switch(tmp_path / "data", tmp_path / "switch")


@pytest.fixture
def failing(tmp_path: Path, switch: Switch) -> Iterator[Cluster]:
    """Nodes whose disk and clock can be made to fail."""
    try:
        environ = switch.environ()
    except DiskMissingError as missing:
        pytest.skip(str(missing))
    with a_cluster(tmp_path, settings=environ) as made:
        yield made


async def asked(node: Node, method: str, path: str, body: object = None) -> tuple[int, Any]:
    status, answer = await asyncio.to_thread(node.ask, method, path, body)
    assert not re.search(r"database is locked|disk|sqlite|malformed", str(answer), re.IGNORECASE), answer
    return status, answer


async def created_until_refused(node: Node, **fields: Any) -> list[str]:
    """Creates until the store takes no more; the ids of those it took."""
    ids: list[str] = []
    for _ in range(400):
        status, answer = await asked(node, "POST", "/events", {"name": "n", "description": "x" * 3_900, **fields})
        if status == 503:
            assert answer["code"] == "store_unavailable"
            return ids
        assert status == 201
        ids.append(answer["id"])
    raise AssertionError("the disk never filled")


async def accepted_again(node: Node, **fields: Any) -> str:
    async with asyncio.timeout(20):
        while True:
            status, answer = await asked(node, "POST", "/events", {"name": "n", **fields})
            if status == 201:
                return str(answer["id"])
            assert status == 503
            await asyncio.sleep(0.1)


async def ready_again(node: Node) -> None:
    async with asyncio.timeout(20):
        while (await asked(node, "GET", "/health?ready=true"))[0] != 200:
            await asyncio.sleep(0.1)


def left_whole(cluster: Cluster, ids: list[str]) -> None:
    for node in cluster.nodes.values():
        node.kill()
    data = cluster.directory / "data"
    with closing(sqlite3.connect(data / "qhronos.db")) as connection:  # folds back what the log holds
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert faults_of(data, [["created", *ids]]) == []


@pytest.mark.parametrize("fault", ["full", "unsynced"])
async def test_without_room_or_sync_nothing_is_acknowledged_and_all_goes_on_by_itself_afterwards(
    failing: Cluster, switch: Switch, receiver: Receiver, fault: str
) -> None:
    """F23, F25, F58."""
    node = await asyncio.to_thread(failing.start)
    due = soon(2)
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
    with switch.full() if fault == "full" else switch.unsynced():
        taken = await created_until_refused(node, schedule="every 1h")
        assert (await asked(node, "GET", f"/events/{event['id']}"))[0] == 200
        assert (await asked(node, "GET", "/health?ready=true"))[0] == 503  # though all can be read
        await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()) + 1)
    taken.append(await accepted_again(node, schedule="every 1h"))
    await ready_again(node)
    rows = await all_finished(node, [event["id"]])
    verdict = verdict_on(node, [Wanted(event["id"], due)], receiver, rows)
    assert verdict.clean(), verdict
    assert rows[0]["status"] == "completed"
    left_whole(failing, [*taken, event["id"]])


# --- another process has the file ------------------------------------------------------------------------


@contextmanager
def locked(data: Path) -> Iterator[None]:
    with closing(sqlite3.connect(data / "qhronos.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_lock_of_another_process_costs_callers_time_then_a_503_and_nothing_is_lost(
    cluster: Cluster, receiver: Receiver
) -> None:
    """F57. Held for 13 s: who asks at once is told after 10 s, who asks after 6 s is answered when it ends."""
    node = await asyncio.to_thread(cluster.start)
    due = soon(2)
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
    with locked(cluster.directory / "data"):
        began = time.monotonic()
        early = asyncio.create_task(asked(node, "POST", "/events", {"name": "n", "schedule": "every 1h"}))
        await asyncio.sleep(1)
        assert (await asked(node, "GET", f"/events/{event['id']}"))[0] == 200  # readers wait for nobody
        await asyncio.sleep(5)
        late = asyncio.create_task(asked(node, "POST", "/events", {"name": "m", "schedule": "every 1h"}))
        status, answer = await early
        assert (status, answer["code"]) == (503, "store_unavailable")
        assert time.monotonic() - began > 9
        assert not late.done()
    status, answer = await late
    assert status == 201
    rows = await all_finished(node, [event["id"]])
    assert verdict_on(node, [Wanted(event["id"], due)], receiver, rows).clean()
    assert sorted(each["name"] for each in (await asked(node, "GET", "/events"))[1]) == ["m", "n"]
    left_whole(cluster, [answer["id"], event["id"]])


# --- the directory ------------------------------------------------------------------------------------------


def doctor(cluster: Cluster, **more: str) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", "doctor"],
        cwd=ROOT,
        env={**cluster.environ(), "QHRONOS_DELIVERY__TIMEOUT": "1s", **more},  # the rig's leases are short
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in told.stderr, told.stderr
    return told.returncode, told.stdout


async def test_a_directory_that_went_away_is_said_by_all_and_made_anew_by_nobody(cluster: Cluster) -> None:
    """F62."""
    data = cluster.directory / "data"
    node = await asyncio.to_thread(cluster.start)
    status, event = await asked(node, "POST", "/events", {"name": "n", "schedule": "every 1h"})
    assert (await asked(node, "GET", "/health?ready=true"))[0] == 200
    status, said = await asyncio.to_thread(doctor, cluster)
    assert status == 0, said

    data.rename(data.with_name("aside"))
    assert (await asked(node, "POST", "/events", {"name": "m", "schedule": "every 1h"}))[0] == 503
    assert (await asked(node, "GET", "/health?ready=true"))[0] == 503
    assert (await asked(node, "GET", "/health"))[0] == 200
    status, said = await asyncio.to_thread(doctor, cluster)
    assert status == 1
    assert f"FIX  {data / 'qhronos.db'} is missing" in said
    assert not data.exists()

    data.with_name("aside").rename(data)
    await accepted_again(node, schedule="every 1h")
    assert (await asked(node, "GET", "/health?ready=true"))[0] == 200
    assert (await asked(node, "GET", f"/events/{event['id']}"))[0] == 200


async def test_the_doctor_makes_nothing_and_names_what_is_missing_damaged_or_open_to_others(cluster: Cluster) -> None:
    data = cluster.directory / "data"
    assert (await asyncio.to_thread(doctor, cluster))[0] == 1
    assert not data.exists()
    node = await asyncio.to_thread(cluster.start)
    node.stopped_by(signal.SIGTERM)

    (data / "secrets" / "at_rest_key").chmod(0o644)
    status, said = await asyncio.to_thread(doctor, cluster)
    assert (status, "can be used by others" in said) == (1, True)
    (data / "secrets" / "at_rest_key").rename(data / "kept")
    status, said = await asyncio.to_thread(doctor, cluster)
    assert (status, f"{data / 'secrets' / 'at_rest_key'} is missing" in said) == (1, True)
    assert not (data / "secrets" / "at_rest_key").exists()
    (data / "kept").rename(data / "secrets" / "at_rest_key")
    (data / "secrets" / "at_rest_key").chmod(0o600)

    with (data / "qhronos.db").open("r+b") as file:
        file.seek(8 * 4_096)
        file.write(os.urandom(4_096))
    before = (data / "qhronos.db").read_bytes()
    status, said = await asyncio.to_thread(doctor, cluster)
    assert status == 1
    assert "damaged" in said
    assert "backup" in said
    assert (data / "qhronos.db").read_bytes() == before


def bound_by_permissions() -> None:
    """Also root, from its next program on: without the rights to pass over them (Linux's CAP_DAC_*)."""
    if sys.platform.startswith("linux") and os.geteuid() == 0:
        drop_from_bounding_set = 24
        libc = ctypes.CDLL(None)
        for capability in (1, 2):
            libc.prctl(drop_from_bounding_set, capability, 0, 0, 0)


def told_without_rights(cluster: Cluster, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", *command],
        cwd=ROOT,
        env=cluster.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=bound_by_permissions,
    )


@pytest.mark.parametrize("what", ["data", "data/secrets"])
def test_the_doctor_says_in_one_line_what_it_may_not_look_at(cluster: Cluster, what: str) -> None:
    node = cluster.start()
    node.stopped_by(signal.SIGTERM)
    closed = cluster.directory / what
    closed.chmod(0o000)
    told = told_without_rights(cluster, "doctor")
    closed.chmod(0o700)
    assert (told.returncode, told.stderr) == (1, "")
    [line] = told.stdout.splitlines()
    assert line.startswith(f"FIX  {closed}")
    assert "run this as the user who serves" in line


@pytest.mark.parametrize("what", ["directory", "file", "made by another user"])
def test_a_place_that_may_not_be_written_is_refused_at_the_start_with_the_path_and_the_fix(
    cluster: Cluster, what: str
) -> None:
    """F62."""
    data = cluster.directory / "data"
    data.mkdir(mode=0o700)
    (data / "qhronos.db").touch(0o600)
    if what == "directory":
        data.chmod(0o500)
    if what == "file":
        (data / "qhronos.db").chmod(0o400)
    if what == "made by another user":
        if os.geteuid() != 0:
            pytest.skip("only root can give a directory to another user")
        os.chown(data, 65534, 65534)
    told = told_without_rights(cluster, "serve", "--port", "0")
    assert told.returncode == 2
    assert len(told.stderr.splitlines()) == 1
    assert str(data) in told.stderr
    assert re.search(r"chmod|writable|another", told.stderr)
    assert (data / "qhronos.db").read_bytes() == b""


async def test_a_data_directory_may_have_any_name_a_file_system_takes(tmp_path: Path, receiver: Receiver) -> None:
    """F50."""
    odd = tmp_path / "data dir, ünïcode ' \" ?#%20&;$HOME"
    odd.mkdir()
    with a_cluster(odd) as cluster:
        node = await asyncio.to_thread(cluster.start)
        due = soon(4)
        event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
        node.kill()
        node = await asyncio.to_thread(cluster.start)
        rows = await all_finished(node, [event["id"]])
        assert rows[0]["status"] == "completed"
        status, said = await asyncio.to_thread(doctor, cluster)
        assert status == 0, said


# --- a laptop -----------------------------------------------------------------------------------------------


async def rows_of(node: Node, event: dict[str, Any]) -> list[dict[str, Any]]:
    return await asyncio.to_thread(node.occurrences, event["id"])


async def test_after_a_night_with_the_lid_closed_one_run_stands_for_all_that_was_missed(
    failing: Cluster, switch: Switch, receiver: Receiver
) -> None:
    """F49: the process stopped, the clock eight hours on."""
    node = await asyncio.to_thread(failing.start)
    event = await asyncio.to_thread(node.create, schedule="every 1m", action=webhook(receiver))
    node.send(signal.SIGSTOP)
    switch.move_clock(8 * 3_600)
    node.send(signal.SIGCONT)
    async with asyncio.timeout(20):
        while not (ran := [row for row in await rows_of(node, event) if row["status"] == "completed"]):
            await asyncio.sleep(0.1)
    assert len(receiver.log) == len(ran) == 1
    assert ran[0]["caught_up"]["missed"] in (478, 479, 480)
    missed = [row for row in await rows_of(node, event) if row["status"] == "missed"]
    assert {row["reason"] for row in missed} == {"coalesced"}


async def test_an_old_copy_of_the_store_sends_again_under_the_same_ids(cluster: Cluster, receiver: Receiver) -> None:
    """F55."""
    data = cluster.directory / "data"
    node = await asyncio.to_thread(cluster.start)
    event = await asyncio.to_thread(
        node.create, schedule="every 1s", catch_up="all", max_occurrences=6, action=webhook(receiver)
    )
    await receiver.until(lambda log: len(log) >= 2, within=20)
    node.kill()
    shutil.copytree(data, data.with_name("backup"), ignore=shutil.ignore_patterns("signals"))
    node = await asyncio.to_thread(cluster.start)
    rows = await all_finished(node, [event["id"]])
    before = {row["scheduled_at"]: row["id"] for row in rows}
    node.kill()
    shutil.rmtree(data)
    data.with_name("backup").rename(data)

    node = await asyncio.to_thread(cluster.start)
    again = await all_finished(node, [event["id"]])
    assert len(again) == 6
    assert {row["scheduled_at"]: row["id"] for row in again} == before
    wanted = [Wanted(event["id"], datetime.fromisoformat(instant.replace("Z", "+00:00"))) for instant in before]
    verdict = verdict_on(node, wanted, receiver, again)
    assert verdict.clean(), verdict
    assert verdict.duplicates >= 1


# --- where it logs ------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere() -> Iterator[IO[bytes]]:
    """A place for logs that takes none: a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("wb") as full:
        yield full


async def test_where_logs_cannot_be_written_everything_goes_on(
    cluster: Cluster, receiver: Receiver, nowhere: IO[bytes]
) -> None:
    """F24."""
    node = await asyncio.to_thread(started, cluster, stdout=nowhere, stderr=nowhere)
    due = soon(1)
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
    rows = await all_finished(node, [event["id"]])
    assert verdict_on(node, [Wanted(event["id"], due)], receiver, rows).clean()
    assert rows[0]["status"] == "completed"
    assert node.stopped_by(signal.SIGTERM) == -signal.SIGTERM
