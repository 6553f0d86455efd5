"""The host's end of a process' streams: where containerd says they go, opened and moved without ever blocking the loop.

Glossary:

- *target*: one place to write to or read from, parsed from what containerd names (a path, or a URI with a scheme).
- *FIFO*: a named pipe made by containerd or its client, who may open the other end later, never, or again and again.
- *logger*: a program that containerd names by `binary://`, which gets the output as pipes.

The rules are those of containerd's runtime v2 ("Logging") and of its runc shim.
"""
