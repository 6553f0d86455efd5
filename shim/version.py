"""Name and version of this runtime, as `-v`, `-info` and `Connect` tell them."""

#: The runtime's name in containerd's configuration.
RUNTIME_NAME = "io.containerd.kata.v2"

#: Name of the executable, which prefixes its error messages.
PROGRAM = "containerd-shim-kata-v2"

#: Version of this project.
VERSION = "0.1.0"

#: Version of the Task service that `start` and `Connect` announce.  Version 3 would be served alike, but containerd
#: then attaches a pod's containers to the pod's connection without a `start`, a close callback and a `delete` of
#: their own: when the daemon is killed they stay registered with a dead client.
TASK_VERSION = 2
