"""What a daemon makes when it first needs it, made before the fork: so it is in the memory that all of them share.

Nothing here opens a file or a socket, or starts a thread.
"""

from __future__ import annotations

import anyio
import betterproto2

from agent_client import address
from protos import rich
from sandbox import digest, oci
from shim import log

#: What a daemon takes of anyio, which finds each name when it is first asked for.
ANYIO_NAMES = (
    "CancelScope",
    "Event",
    "Lock",
    "Semaphore",
    "create_task_group",
    "current_effective_deadline",
    "current_time",
    "fail_after",
    "move_on_after",
    "open_signal_receiver",
    "sleep",
    "sleep_forever",
    "wait_readable",
    "wait_writable",
)

_SPEC = b'{"root": {"path": "/"}}'


def warm_up() -> None:
    """Have it all made."""
    log.set_levels(debug=False)
    for name in ANYIO_NAMES:
        getattr(anyio, name)
    _compile_tables()
    # Their libraries compile what they read with: patterns, and the types of all parts of a spec.
    address.parse("unix:///run/agent")
    oci.decode(_SPEC, oci.Spec, "an empty specification")
    digest.sha256_hex(b"")


def _compile_tables() -> None:
    """How each message that has been imported is read and written."""
    classes: list[type] = [betterproto2.Message]
    for message_type in classes:
        classes += message_type.__subclasses__()
        if "__dataclass_fields__" in vars(message_type):
            rich.table_of(message_type).compile()
