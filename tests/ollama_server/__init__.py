"""A server that speaks Ollama's protocol over real HTTP, with deterministic answers and faults on demand.

In a test:            with OllamaTestServer(models=["tinyllama"]) as server: OllamaClient(server.url)
In another process:   with OllamaTestProcess("--parallel", "500") as server: ...
From a shell:         python -m tests.ollama_server --port 11500

The pace and the faults of an answer are chosen by knobs, see `knobs.py`: in the model's tag ("double:t100-d50"),
in the prompt ("[[cut3]]"), or with POST /__control for requests that match. GET /__stats counts what happened.
"""

from tests.ollama_server.embedded import OllamaTestProcess, OllamaTestServer

__all__ = ["OllamaTestProcess", "OllamaTestServer"]
