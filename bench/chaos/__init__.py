"""Chaos: submit tasks to a whole group, break something, heal it, wait, and count what became of every task.

A client-side ledger, synced to the disk, knows what was promised; the test server knows what each answer must be.
"""
