"""What every agent must read in every conversation is counted, and so is what a call costs it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from rs_bpe.bpe import openai

from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN, Said

_O200K = openai.o200k_base()
DEFINITIONS, RESULT, INSTRUCTIONS = 2_000, 350, 150
DESCRIPTION = "Call the supplier about the late delivery and write down what they say about next week"
NAMES = ("Water the plants", "Call the supplier", "Write weekly report", "Check the backups", "Pay open invoices")


def tokens(text: str) -> int:
    return int(_O200K.count(text))


async def test_the_definitions_cost_at_most_two_thousand(house: House) -> None:
    async with house.speaker(MODERN) as alice:
        tools = (await alice.client.list_tools()).tools
        sent = [
            json.dumps(tool.model_dump(by_alias=True, mode="json", exclude_none=True), separators=(",", ":"))
            for tool in tools
        ]
    counted = {tool.name: tokens(text) for tool, text in zip(tools, sent, strict=True)}
    assert sum(counted.values()) <= DEFINITIONS, counted


async def test_the_instructions_cost_at_most_a_hundred_and_fifty(house: House) -> None:
    async with house.speaker("2025-11-25") as alice:
        assert alice.client.instructions is not None
        assert tokens(alice.client.instructions) <= INSTRUCTIONS
        assert len(alice.client.instructions.split()) <= 100


async def test_a_result_at_default_arguments_costs_at_most_three_hundred_and_fifty(house: House) -> None:
    costs: dict[str, int] = {}

    def counted(what: str, said: Said) -> Said:
        assert not said.is_error, said.text
        costs[what] = tokens(said.text)
        return said

    async with house.speaker(MODERN) as alice:

        async def create(number: int, **more: Any) -> Said:
            return await alice.call(
                "create_event",
                name=NAMES[number],
                key=f"team/{NAMES[number].lower().replace(' ', '-')}",
                schedule="every weekday at 9am",
                timezone="Europe/Paris",
                description=DESCRIPTION,
                tags=["user:alice", "weekly"],
                metadata={"ticket": 4711},
                **more,
            )

        for number in range(5):
            counted("create_event", await create(number))
        counted("create_event, again", await create(0))
        key = "team/water-the-plants"
        counted("list_events", await alice.call("list_events"))
        counted("list_events, one", await alice.call("list_events", event_id=key))
        counted("update_event", await alice.call("update_event", event_id=key, changes={"schedule": "@daily"}))
        counted("list_occurrences, upcoming", await alice.call("list_occurrences", upcoming=True))
        for _ in range(2):
            await house.comes_due(timedelta(days=1))
        counted("list_occurrences", await alice.call("list_occurrences"))
        waited = counted("wait_for_occurrences", await alice.call("wait_for_occurrences"))
        item = waited["occurrences"][0]["id"]
        counted("list_occurrences, one", await alice.call("list_occurrences", occurrence_id=item))
        counted(
            "acknowledge_occurrence", await alice.call("acknowledge_occurrence", occurrence_id=item, outcome="failed")
        )
        counted("trigger", await alice.call("trigger", occurrence_id=item))
        counted("delete_event", await alice.call("delete_event", event_id=key))
        refused = await alice.call("create_event", name="n", schedule="0 0 30 2 *")
        costs["an error"] = tokens(refused.text)
    print(costs)
    assert {what: cost for what, cost in costs.items() if cost > RESULT} == {}


@pytest.mark.parametrize("text", ["", "Qhronos"])
def test_the_counter_counts(text: str) -> None:
    assert tokens(text) == len(_O200K.encode(text))
