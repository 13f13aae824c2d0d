"""Benchmarks and chaos: real groups of processes, real servers, each measurement a command.

python -m bench          the figures of docs/benchmarks.md
python -m bench.chaos    kills everything in turn and counts what was lost
"""
