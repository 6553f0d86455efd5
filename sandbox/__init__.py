"""The pod: one VM, its containers, its mounts and resources, and the order of things.

Glossary, as containerd and Kata use the words:

- *sandbox*: one pod, that is one VM with what it needs on the host.
- *container*: an OCI bundle that runs inside a sandbox; its first process is its *init*.
- *exec*: a further process in a running container.
- *plan*: pure values that say what a start will do; made before anything is touched.
- *phase*: one named, timed step of a start.
- *run directory*: where everything of one sandbox lives on disk, and from which it can be undone by anybody.
"""
