"""Run the Ollama test server alone: python -m tests.ollama_server --port 11500."""

import argparse
import asyncio
import signal

from tests.ollama_server.app import App
from tests.ollama_server.embedded import allow_many_sockets, listen, port_of
from tests.ollama_server.models import DEFAULT_MODELS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.ollama_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11500, help="0 takes a free one")
    parser.add_argument("--model", action="append", help=f"an installed model (default: {', '.join(DEFAULT_MODELS)})")
    parser.add_argument("--parallel", type=int, default=1, help="slots per model, as OLLAMA_NUM_PARALLEL")
    parser.add_argument("--max-queue", type=int, default=512, help="as OLLAMA_MAX_QUEUE")
    parser.add_argument("--max-loaded", type=int, default=3, help="as OLLAMA_MAX_LOADED_MODELS")
    parser.add_argument("--load-seconds", type=float, default=0.0, help="how long a model takes to load")
    parser.add_argument("--keep-alive", type=float, default=300.0, help="seconds that an idle model stays loaded")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    app = App(
        models=tuple(arguments.model or DEFAULT_MODELS),
        parallel=arguments.parallel,
        max_queue=arguments.max_queue,
        max_loaded=arguments.max_loaded,
        load_seconds=arguments.load_seconds,
        keep_alive=arguments.keep_alive,
    )
    server = await listen(app, arguments.host, arguments.port)
    print(f"Ollama test server on http://{arguments.host}:{port_of(server)}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


def main() -> None:
    allow_many_sockets()
    asyncio.run(_serve(_arguments()))


if __name__ == "__main__":
    main()
