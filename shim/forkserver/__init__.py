"""One pre-loaded process per node that forks the pods' daemons: a start without imports, and memory that pods share.

- *client*: on the path of `start`: hands the listening socket, the log and the bundle over, and gets a pid back;
- *server*: has imported all that a daemon needs; forks one per request; lives as long as one of its daemons does;
- *warmup*, *heap*: what daemons would make for themselves, made before the fork; and where their own objects go;
- *inheritance*: what a forked daemon takes over from the `start` that asked, as if that had started it itself;
- *fingerprint*: the files that were imported, so that an upgrade never forks old code.

It is an optimisation. Where there is none (the first pod of a node, another namespace, another user, an upgrade),
`start` leaves the daemon behind by itself, and has the next one find a server. Its death means nothing to the pods.
"""
