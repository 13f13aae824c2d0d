"""A thousand users: how many requests in a second the API answers in time, and what they cost.

python -m bench.load               the section "load" of docs/benchmarks.md: rates, latencies, memory over an hour
python -m bench.load.metrics_cost  the section "metrics-cost": the same load with and without metrics
python -m bench.load.waits         the section "waits": `manage.py capacity` beside real queues
"""
