"""The gateway beside LiteLLM Proxy: the same calls to the same upstream, by turns.

python -m bench.gateway            the section "gateway" of docs/benchmarks.md
python -m bench.gateway.double     the upstream alone, to try other gateways against it
"""
