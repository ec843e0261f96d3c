"""What an operator is told about keys and secrets: `qhronos doctor`, a start without its key, `qhronos rotate-key`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from qhronos_core import config
from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import InvalidInputError, StartRefusedError
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.schedule import tzdata_version
from qhronos_core.ports import Changes, KeyMissingError
from qhronos_core.usecases.zones import follow_zones
from qhronos_core.wiring import Core, open_core
from qhronos_mcp import rotation
from qhronos_mcp.doctor import examine

HOOK: Mapping[str, Any] = {"action": {"type": "webhook", "params": {"url": "https://receiver.example/hook"}}}
MASTER = Principal.of_master()


def settings(data_dir: Path, **environ: str) -> config.Settings:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("QHRONOS_", "DATABASE_URL"))}
    return config.load(None, {**given, "QHRONOS_DATA_DIR": str(data_dir), **environ})


async def a_hook(core: Core) -> EventId:
    answer = await core.events.create({"name": "hook", "schedule": "0 9 * * *", **HOOK}, caller=MASTER)
    assert answer.secret_once
    return answer.event.id


async def told(core: Core) -> list[str]:
    return [f"{'ok' if finding.well else 'FIX'} {finding.says}" async for finding in examine(core)]


async def rotated(core: Core) -> str:
    said: list[str] = []
    assert core.at_rest is not None
    await rotation.rotate(core.at_rest, said.append)
    return "\n".join(said)


async def test_doctor_names_the_keys_in_use_and_those_that_may_go(tmp_path: Path) -> None:
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        await a_hook(core)
        assert core.at_rest is not None
        first = core.at_rest.current
        assert any(f"ok At rest: the present key {first} seals 1 secret " in line for line in await told(core))
        await rotated(core)
        said = "\n".join(await told(core))
        assert f"the present key {core.at_rest.current} seals 1 secret " in said
        assert f"nothing is sealed with the earlier key {first}" in said
        await core.at_rest.renew()
        assert any(
            line.startswith("FIX At rest: the earlier key") and "`qhronos rotate-key`" in line
            for line in await told(core)
        )


async def test_doctor_looks_through_all_tokens_and_events_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qhronos_mcp.doctor.AT_ONCE", 1)
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        lost = []
        for name in ("ann", "bob", "eve"):
            fields = {"name": name, "schedule": "0 9 * * *", "tags": [f"user:{name}"]}
            lost.append((await core.events.create(fields, caller=MASTER)).event.id)
        for name in ("ann", "bob"):
            await core.tokens.mint({"sub": name, "access": "write", "scope": [f"user:{name}"]}, caller=MASTER)
        said = [line for line in await told(core) if line.startswith("FIX")]
        assert said == [
            f"FIX Event {lost[2]} is reached by no live token (labels user:eve): mint one, or delete it as admin."
        ]
        await core.tokens.revoke(sub="ann", caller=MASTER)
        assert [f"Event {lost[0]} " in line for line in await told(core) if line.startswith("FIX")] == [False, True]


async def test_a_lease_that_ends_before_an_attempt_may_is_said_at_the_start_and_by_doctor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = settings(tmp_path, QHRONOS_SCHEDULER__LEASE="15s")
    for run_scheduler in (True, False):
        caplog.clear()
        async with open_core(short, run_scheduler=run_scheduler) as core:
            assert ("lease_ends_before_an_attempt_may" in caplog.text) is run_scheduler
            [line] = [line for line in await told(core) if line.startswith("FIX")]
    assert line == (
        "FIX scheduler.lease is no longer than delivery.timeout: a receiver that takes so long is sent the same"
        " occurrence again while the first attempt is under way. Make it longer."
    )
    caplog.clear()
    async with open_core(settings(tmp_path, QHRONOS_SCHEDULER__LEASE="16s"), run_scheduler=True) as core:
        assert "lease_ends_before_an_attempt_may" not in caplog.text
        assert [line for line in await told(core) if line.startswith("FIX")] == []


async def test_a_node_that_only_serves_has_no_slots_for_attempts(tmp_path: Path) -> None:
    for enabled, slots in (("true", 200), ("false", 0)):
        async with open_core(settings(tmp_path, QHRONOS_SCHEDULER__ENABLED=enabled)) as core:
            assert core.load().slots == slots


async def test_doctor_says_when_planned_runs_follow_other_time_zones(tmp_path: Path) -> None:
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        await core.store.commit(Changes(zones_version="2001.1", at=await core.now()))
        [line] = [line for line in await told(core) if "Time zones" in line]
        assert line.startswith("FIX ")
        assert f"tzdata {tzdata_version()} is installed, and planned runs follow 2001.1: start a server" in line
        await follow_zones(core.store, core.signals, tzdata_version())
        [line] = [line for line in await told(core) if "Time zones" in line]
        assert line == f"ok Time zones: tzdata {tzdata_version()}, which planned runs follow."


async def test_a_start_that_lost_its_key_is_refused_and_makes_no_other(tmp_path: Path) -> None:
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        await a_hook(core)
    key = tmp_path / "secrets" / "at_rest_key"
    saved = key.read_text()
    key.unlink()
    for _ in range(2):
        with pytest.raises(StartRefusedError, match="at_rest_key is missing") as refused:
            async with open_core(settings(tmp_path), run_scheduler=False):
                pass
        assert "\n" not in str(refused.value)
        assert not key.exists()
    key.touch(0o600)
    key.write_text(saved)
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        assert core.secrets_made == ()


async def test_a_store_without_secrets_starts_with_a_new_key(tmp_path: Path) -> None:
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        await core.events.create({"name": "inbox", "schedule": "0 9 * * *"}, caller=MASTER)
    (tmp_path / "secrets" / "at_rest_key").unlink()
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        assert [file.name for file in core.secrets_made] == ["at_rest_key"]


async def test_a_key_moved_into_the_configuration_still_opens_what_its_files_sealed(tmp_path: Path) -> None:
    configured = {"QHRONOS_AUTH__AT_REST_KEY": "B" * 43}
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        event_id = await a_hook(core)
        await rotated(core)
    async with open_core(settings(tmp_path, **configured), run_scheduler=False) as core:
        answer = await core.events.update(event_id, {"name": "renamed", "hmac_secret": None}, caller=MASTER)
        assert answer.secret_once
        assert "Nothing to do" in await rotated(core)  # the only one was sealed anew by its change
    (tmp_path / "secrets" / "at_rest_key").unlink()
    (tmp_path / "secrets" / "retired_at_rest_keys").unlink()
    async with open_core(settings(tmp_path, **configured), run_scheduler=False) as core:
        assert [line for line in await told(core) if line.startswith("FIX")] == []


async def test_secrets_of_a_key_that_is_not_kept_are_told_of_with_what_to_put_back(tmp_path: Path) -> None:
    async with open_core(settings(tmp_path, QHRONOS_AUTH__AT_REST_KEY="B" * 43), run_scheduler=False) as core:
        event_id = await a_hook(core)
        assert core.at_rest is not None
        lost = core.at_rest.current
    async with open_core(settings(tmp_path, QHRONOS_AUTH__AT_REST_KEY="C" * 43), run_scheduler=False) as core:
        (finding,) = [line for line in await told(core) if line.startswith("FIX At rest")]
        assert f"1 secret cannot be used: the key that sealed them, {lost}, is not kept" in finding
        assert "auth.previous_at_rest_keys" in finding
        assert "Left as they are: 1" in await rotated(core)
        with pytest.raises(KeyMissingError, match="lacks the key"):
            await core.events.update(event_id, {"hmac_secret": None}, caller=MASTER)


async def test_what_is_lifted_of_the_deny_list_is_said_at_the_start_and_only_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S30: by configuration alone, and loudly; a command that sends nothing says nothing."""
    lifted = {
        "QHRONOS_EGRESS__ALLOW_LOOPBACK": "true",
        "QHRONOS_EGRESS__ALLOW_NETWORKS": "10.1.0.0/16,192.168.7.0/24",
        "QHRONOS_EGRESS__ALLOW_HTTP": "true",
    }
    async with open_core(settings(tmp_path / "a", **lifted), run_scheduler=False):
        assert "egress_may_call" not in caplog.text
    async with open_core(settings(tmp_path / "b")):
        assert "egress_may_call" not in caplog.text
    async with open_core(settings(tmp_path / "c", **lifted)):
        warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for what in ("this_machine", "private_networks", "without_tls"):
        assert any(f"egress_may_call_{what}" in line for line in warned), warned


@pytest.mark.parametrize(
    "lifting",
    [
        {"egress": {"allow_loopback": True}},
        {"allow_loopback": True},
        {"allow_networks": ["127.0.0.0/8"]},
        {"action": {"type": "webhook", "params": {"url": "https://127.0.0.1/", "allow_loopback": True}}},
        {"action": {"type": "webhook", "params": {"url": "https://10.0.0.1/"}}},
        {"action": {"type": "apicall", "params": {"url": "https://[::1]/", "allow_networks": ["::1/128"]}}},
        {"webhook": "https://localhost/"},
    ],
)
async def test_no_event_lifts_anything(tmp_path: Path, lifting: dict[str, Any]) -> None:
    """S30: an attempt by the API is refused."""
    async with open_core(settings(tmp_path), run_scheduler=False) as core:
        with pytest.raises(InvalidInputError):
            await core.events.create({"name": "n", "schedule": "@daily", **lifting}, caller=MASTER)
        assert await core.store.events.count_live("master") == 0
