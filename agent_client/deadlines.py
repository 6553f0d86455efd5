"""How long the agent may take for an RPC, in seconds, where the caller does not say. None: as long as it takes.

The numbers are those of Kata's shim; containerd's own patience is often shorter, so callers that have a deadline give
theirs.
"""

from __future__ import annotations

from typing import Final

#: Health checks: also an agent that is short of CPU answers by then.
CHECK: Final = 30.0
#: Devices have to appear and storages to be mounted before the reply.
CREATE_CONTAINER: Final = 60.0
#: Everything else that ends by itself.
REQUEST: Final = 60.0
#: Waits for something that may never happen: the end of a process, output, an OOM kill. They end with the connection.
UNLIMITED: Final = None
