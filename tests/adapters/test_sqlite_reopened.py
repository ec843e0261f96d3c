"""A file that was written to is opened again: nothing sound is called damaged."""

from pathlib import Path

from tests.world import OWNER, a_world


async def test_a_store_with_labelled_and_tagged_events_opens_again(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for number in range(5):
            await world.event(key=f"k{number}", tags=["team:a", "plain", f"user:{number}"])
    async with a_world(tmp_path) as world:
        assert (await world.events.get("k3", caller=OWNER)).event.tags == ("team:a", "plain", "user:3")
