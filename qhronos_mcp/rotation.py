"""`qhronos rotate-key`, in words: what is done, how far it is, and what is left for the operator."""

from collections.abc import Callable
from typing import Final

from qhronos_core.usecases.at_rest import AtRest, Progress

TOLD_EVERY: Final = 1_000  # secrets

Says = Callable[[str], None]


async def rotate(at_rest: AtRest, say: Says) -> bool:
    """Whether everything is sealed with the present key in the end."""
    present, *others = await at_rest.keys()
    if any(key.values for key in others):
        say(f"There are secrets sealed with earlier keys. Sealing them anew with the present one, {present.name}.")
    elif at_rest.makes_its_own:
        await at_rest.renew()
        say(f"{at_rest.current} is the at-rest key now; {present.name} is kept beside it and goes on opening.")
    else:
        say(f"Nothing to do: whatever is secret is sealed with {present.name}, the key that is configured.")
        say("For another one set auth.at_rest_key, in the three steps that config.example.yaml tells.")
        return True
    told, progress = 0, Progress(0)
    async for progress in at_rest.seal_anew():
        if progress.sealed_anew - told >= TOLD_EVERY:
            told = progress.sealed_anew
            say(f"  {told} of {progress.found}")
    say(f"Sealed anew: {progress.sealed_anew}.")
    if progress.unopened:
        say(f"Left as they are: {progress.unopened}, whose keys are not kept. Put those back and run this again.")
    if progress.damaged:
        say(f"Damaged: {progress.damaged}, changed since they were sealed. Make their events anew.")
    if not progress.finished:
        say("Somebody goes on sealing with another key: start every node with this one, then run this again.")
    finished = progress.finished and not progress.unopened and not progress.damaged
    if finished and not at_rest.makes_its_own:
        say("Once no node has another auth.at_rest_key, auth.previous_at_rest_keys can be emptied.")
    await forget(at_rest, say)
    return finished


async def forget(at_rest: AtRest, say: Says) -> bool:
    """Remove what is no more needed, and say what will be."""
    for key in await at_rest.forget():
        say(f"The earlier key {key.name} is removed: nothing needs it.")
    for key in await at_rest.keys():
        if key.retired_at is not None and not key.current and not key.values:
            say(f"Nothing is sealed with the earlier key {key.name}. It is kept an hour for what was under way;")
            say("then `qhronos rotate-key --forget` removes it.")
    return True
