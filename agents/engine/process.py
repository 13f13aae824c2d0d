"""The engine's threads within one process: started by web and worker processes, not by commands."""

import logging

from agents.engine import operations
from agents.engine.writer import Writer

logger = logging.getLogger(__name__)

writer = Writer(lambda: operations.ORDER)
