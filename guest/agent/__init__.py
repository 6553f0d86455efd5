"""The guest agent: the first process of the virtual machine, and the host's hand inside it.

It serves Kata's agent protocol (`grpc.AgentService`, `grpc.Health`) over ttrpc and hands the OCI work to crun. It runs
on the standard library alone, because every import costs boot time, thirtyfold where the guest is emulated.

Glossary:

- *sandbox*: this virtual machine as the host sees it: one pod, its shared namespaces and storages.
- *container*: an OCI container of the pod; its first process is its *init*.
- *exec*: a further process in a running container.
- *process*: an init or an exec, with its streams and, in the end, its exit status.
- *storage*: something mounted or made in the guest before a container can use it; kept by a *driver*.
- *session*: one connection of a host; the agent outlives its sessions.
- *layout*: where the agent keeps what on the guest's file system.

From bottom to top: `kernel`, `reaper`, `spawn` (system calls and children) - `streams`, `terminal`, `process`,
`container` (life of a process) - `ocispec` and its neighbours (pure translation) - `devices`, `storage` (what
containers are given) - `crun` - `manager`, `sandbox` (what the RPCs act on) - `rpc_*`, `service` (the RPCs) -
`serial`, `vsock` (ways in) - `boot`, `main`.
"""
