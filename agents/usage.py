"""Tells core how many tasks of somebody wait and run, for those who look at their limits."""

from agents.engine import charges
from core.access.limits import usage

usage.register_tasks(charges.count_unfinished)
