"""The request limits of REST hold here too, and one bucket serves both faces."""

from pathlib import Path

import pytest
from mcp.shared.exceptions import MCPError

from qhronos_core.config import Settings
from qhronos_mcp.mcp_server.server import REFUSAL
from qhronos_mcp.middleware import FAILED_AUTHENTICATIONS
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp.test_waits import Patient


@pytest.fixture
def narrow(house: House, tmp_path: Path) -> None:
    """Three calls (and the list of tools, which a client asks for before its first), then no more for a long while."""
    limit = {"per_minute": 1, "burst": 4}
    house.core.settings = Settings.model_validate({"data_dir": tmp_path, "rate_limits": {"read_write": limit}})


@pytest.mark.usefixtures("narrow")
async def test_one_call_too_many_is_a_tool_s_own_error(house: House) -> None:
    async with house.speaker("2025-11-25") as alice:
        for _ in range(3):
            assert not (await alice.call("list_events")).is_error
        refused = await alice.call("list_events")
        assert refused.is_error
        assert refused["code"] == "rate_limited"
        with pytest.raises(MCPError) as over:
            await alice.read("qhronos://inbox")
        assert over.value.error.code == REFUSAL
        assert over.value.error.data["code"] == "rate_limited"
        assert over.value.error.data["retryAfter"] > 0
    async with house.speaker("2025-11-25", "admin") as admin:  # another token, another bucket
        assert not (await admin.call("list_events")).is_error


@pytest.mark.usefixtures("narrow")
async def test_no_task_is_begun_by_a_call_too_many(house: House) -> None:
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        for _ in range(3):
            await alice.call("wait_for_occurrences")
        assert (await alice.call("wait_for_occurrences"))["code"] == "rate_limited"
        assert len(patient.started) == 3


async def test_an_address_that_proves_nothing_too_often_is_refused_before_its_tokens_are_looked_at(
    house: House,
) -> None:
    async with house.http() as http:
        wrong = {"Authorization": "Bearer nonsense"}
        statuses: list[int] = []
        while (not statuses or statuses[-1] == 401) and len(statuses) < 5 * FAILED_AUTHENTICATIONS.burst:
            statuses.append((await http.post(house.url, json={}, headers=wrong)).status_code)
        assert len(statuses) > FAILED_AUTHENTICATIONS.burst
        assert statuses[-1] == 500  # by the test's bare app; the whole app answers 429
