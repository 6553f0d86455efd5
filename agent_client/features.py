"""What this runtime's own agent tells of itself in GetGuestDetails (`extra_features`), and a stock one does not."""

from typing import Final

#: `position` in ReadStdout, ReadStderr and WriteStdin.
POSITION: Final = "stream-position"
#: CPUs are taken offline (`OnlineCPUMemRequest.most_cpus`).
OFFLINE: Final = "cpu-offline"
#: The service `grpc.Ports`.
PORTS: Final = "ports"
