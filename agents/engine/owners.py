"""Who holds a lease: the name under which this process takes work."""

import functools

from core.ops.processes import ProcessIdentity


@functools.cache
def this_process() -> str:
    return str(ProcessIdentity.current())
