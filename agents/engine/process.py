"""The engine's threads within one process: started by web and worker processes, not by commands."""

from agents.engine import operations
from agents.engine.writer import Writer

writer = Writer(lambda: operations.STAGES)
