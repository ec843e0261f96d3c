from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qhronos_mcp.rest import resource
from tests.faces.rest.house import House, a_house


@pytest.fixture(autouse=True)
def _absence_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of 404s are asked for here; the test of their time sets it back."""
    monkeypatch.setattr(resource, "ABSENT_AFTER", 0.0)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path) as made:
        yield made
