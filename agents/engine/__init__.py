"""The durable engine: a task that was accepted ends, once, whatever dies on the way.

The way of a task: `submit` writes it down, `grant` gives it a slot, `announce` wakes a runner, `execution` does the
work and hands every piece to the `writer`, `follow` shows the events to whoever waits, `caretaker` picks up what was
lost. All changes of a task's state stand in `transitions`.
"""
