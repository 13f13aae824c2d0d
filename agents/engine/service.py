"""Starting and stopping the engine's threads in a process that serves."""

import logging

from agents.engine.announcer import announcer
from agents.engine.caretaker import caretaker
from agents.engine.process import writer
from agents.engine.runs import runs
from agents.engine.wakeups import publisher

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
PUBLISH_SECONDS = 1.0


def start() -> None:
    """Start what web and worker processes share; followers start their reader with the first of them."""
    writer.start()
    announcer.start()
    publisher.start()
    caretaker.start()


def stop() -> None:
    """Give running tasks back and write what is left."""
    if len(runs):
        logger.info("Giving %d running tasks back to the queue.", len(runs))
    runs.close(STOP_SECONDS)
    writer.stop()
    publisher.stop(PUBLISH_SECONDS)
