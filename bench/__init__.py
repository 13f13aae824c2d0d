"""Benchmarks and chaos: real groups of processes, real servers, each measurement a command.

python -m bench          the figures of docs/benchmarks.md
python -m bench.gateway  the gateway beside LiteLLM Proxy
python -m bench.chaos    kills everything in turn and counts what was lost
"""
