"""Benchmarks and chaos: real groups of processes, real servers, each measurement a command.

python -m bench          the figures of docs/benchmarks.md
python -m bench.gateway  the gateway beside LiteLLM Proxy
python -m bench.load     what the API holds under load, what metrics cost, and what `manage.py capacity` predicts
python -m bench.chaos    kills everything in turn and counts what was lost
"""
