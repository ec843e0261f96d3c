"""The guide agents read promises nothing that is refused."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import qhronos_mcp.mcp_server
from qhronos_core.domain.schedule import ScheduleError, parse_duration, preview

GUIDE = Path(qhronos_mcp.mcp_server.__file__).with_name("guide.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EXAMPLES = [
    line for block in re.findall(r"```schedule\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines() if line
]


def test_there_are_examples_of_every_form() -> None:
    assert len(EXAMPLES) > 25
    assert {"0 9 * * 1-5", "@daily", "every 15m", "PT15M", "in 2 hours"} <= set(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_accepted(example: str) -> None:
    assert preview(example, timezone="Europe/Paris", after=NOW, count=1)


@pytest.mark.parametrize("refused", ["15m", "at 9", "every monday"])
def test_what_it_calls_refused_is_refused(refused: str) -> None:
    assert f"`{refused}`" in GUIDE
    with pytest.raises(ScheduleError):
        preview(refused, after=NOW, count=1)


def test_its_exclusions_and_lengths_are_accepted() -> None:
    for exclusion in re.findall(r"`(20[0-9]{2}-[0-9]{2}-[0-9]{2}(?:/[0-9-]+)?)`", GUIDE):
        assert preview("every day at 9am", after=NOW, count=1, exclusions=[exclusion])
    for length in ("90s", "15m", "1h30m", "2 hours", "P1D", "2h"):
        assert f"`{length}`" in GUIDE
        assert parse_duration(length, field="expires_after")


def test_it_is_short_enough_to_be_read() -> None:
    assert len(GUIDE.split()) <= 1200
