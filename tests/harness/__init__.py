"""What demo, tests and benchmarks share: a private containerd, and proof that nothing is left of what it ran.

Glossary:

- *bed*: one private containerd with its own root, state, socket, network and images below `build/bed/<name>`.
- *reaper*: the process every process of a bed descends from, so that none can get away from the leak check.
- *runtime*: which shim a container runs under; `KATA` is what this project makes, `RUNC` is the peer.
- *inventory*: what a bed may leave on a machine (processes, mounts, links, sockets, cgroups, files), at one moment.
- *leak*: what is in a later inventory and was not in the earlier one.
"""
