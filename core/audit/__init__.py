"""The audit log: what was done, by whom, from where; what was refused; in a chain that shows every later change.

Doors say who acts (`acting`, and `core.api.audit` for every request); whoever changes something says so with `record`,
in the transaction of the change; whoever refuses calls `denied`. `sealer` chains the rows, `verification` walks the
chain, `checkpoints` signs where it stands, `retention` removes what is too old.
"""

from core.audit.changes import diff, snapshot, stored
from core.audit.context import acting, is_told
from core.audit.denials import denied
from core.audit.entries import Subject, record, type_of

__all__ = ["Subject", "acting", "denied", "diff", "is_told", "record", "snapshot", "stored", "type_of"]
