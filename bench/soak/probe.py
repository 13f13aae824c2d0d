"""Probes, in a process of their own: `python -m bench.soak.probe <address> <key>`, until its input ends.

Ten times a second somebody who was not there before asks for a page, by turns the liveness, the sign-in page and a
list of the API, and waits no longer than two seconds for the whole answer. A line of JSON tells of each probe.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from urllib.parse import urlsplit

EVERY_SECONDS = 0.1
TIMEOUT_SECONDS = 2.0
PATHS = ("/health", "/login", "/api/v1/tasks/?page_size=1")
OK = b"200"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe. at: time.perf_counter(), which all processes of a machine share, when it was due.

    late: how much later it was sent. flaw: what was wrong with the answer, or that there was none.
    """

    at: float
    path: str
    seconds: float
    late: float = 0.0
    flaw: str = ""


def read(lines: Iterator[str]) -> list[Probe]:
    return [Probe(**json.loads(line)) for line in lines]


async def main(url: str, key: str) -> None:
    place = urlsplit(url)
    loop = asyncio.get_running_loop()
    over = loop.run_in_executor(None, sys.stdin.read)
    due, running = time.perf_counter(), set[asyncio.Task[None]]()
    for path in cycle(PATHS):
        probe = asyncio.create_task(_probe(place.hostname or "", place.port or 80, path, key, due))
        running.add(probe)
        probe.add_done_callback(running.discard)
        due += EVERY_SECONDS
        done, _ = await asyncio.wait({over}, timeout=max(0.0, due - time.perf_counter()))
        if done:
            break
    await asyncio.gather(*running)


async def _probe(host: str, port: int, path: str, key: str, due: float) -> None:
    began, flaw = time.perf_counter(), ""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            answer = await _ask(host, port, path, key)
        if answer.split(b" ", 2)[1:2] != [OK]:
            flaw = answer.split(b"\r\n")[0].decode("latin-1") or "no answer"
    except TimeoutError:
        flaw = "timeout"
    except Exception as error:  # noqa: BLE001 - whatever went wrong, this probe was not answered
        flaw = type(error).__name__
    told = Probe(due, path, round(time.perf_counter() - began, 4), round(began - due, 4), flaw)
    print(json.dumps(asdict(told)), flush=True)


async def _ask(host: str, port: int, path: str, key: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        authorization = f"Authorization: Bearer {key}\r\n" if path.startswith("/api/") else ""
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}Connection: close\r\n\r\n"
        writer.write(request.encode())
        answer = await reader.read()
    finally:
        writer.close()
    return _whole(answer)


def _whole(answer: bytes) -> bytes:
    """The answer, or nothing where its end is missing."""
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))}
    if b"content-length" in fields:
        return answer if int(fields[b"content-length"]) == len(body) else b""
    return answer if body.endswith(LAST_CHUNK) else b""


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
