"""Coming back for a response whose stream was cut off."""

import copy

from bench import tasks
from bench.chaos.gateway.calls import Call
from bench.chaos.gateway.wire import RESPONSE, End, Heard, StreamReader
from bench.client import Client


async def resume(client: Client, call: Call) -> Heard:
    """Go on after the last event that came; returns all that was heard, before and after."""
    heard = copy.deepcopy(call.heard)
    await _read(client, heard, f"?stream=true&starting_after={heard.numbers[-1]}")
    return heard


async def read(client: Client, identity: str) -> Heard:
    """Read a response's stream from its beginning."""
    heard = Heard(identity=identity)
    await _read(client, heard, "?stream=true")
    return heard


def is_whole(heard: Heard, prompt: str) -> bool:
    """Tell whether the whole answer to a prompt was heard, in events without a gap."""
    first = heard.numbers[0] if heard.numbers else 0
    is_gapless = heard.numbers == list(range(first, first + len(heard.numbers)))
    return is_gapless and heard.end is End.DONE and heard.text == tasks.expected_answer(prompt)


async def _read(client: Client, heard: Heard, query: str) -> None:
    reader = StreamReader(RESPONSE, heard)
    path = f"{RESPONSE.path}/{heard.identity}{query}"
    answer = await client.request("GET", path, on_body=reader.feed)
    if answer.status != 200:
        raise tasks.UnexpectedAnswerError(f"status {answer.status} for {path}")
