"""Soak: an hour of mixed load on a whole group while parts of it die and are replaced, probed from outside.

What a client would notice is counted by probes that know nothing of the faults; what was accepted, by a ledger.
"""
