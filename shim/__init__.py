"""containerd's side of the runtime: what containerd can see, and nothing else.

Glossary, as containerd's runtime v2 uses the words:

- *shim*: the program containerd runs for `io.containerd.kata.v2`. Called with an action (`start`, `delete`) it is a
  short helper; the process that stays and serves the pod is its *daemon*.
- *bundle*: the directory of one container, with its `config.json`; the working directory of every helper.
- *grouping*: all containers of a pod share the daemon of their sandbox, found by the name of its *socket*.
- *handshake*: what `start` reads from its standard input and answers on its standard output, in one of the *dialects*
  of containerd 1.6 to 2.3+.
- *task*: containerd's word for a container that has processes; the Task service is what the daemon serves.
- *stdio*: the FIFOs, files and loggers that containerd names for the streams of a process.

Two kinds of modules live here, and must not be mixed up: those of the helpers (`main`, `cli`, `bootstrap`,
`grouping`, `sockets`, `spawn`, `start`, `delete`, `info`), where every import costs milliseconds of each container's
start, and those of the daemon (`daemon`, `app`, `task`, `events`, `stdio`, ...).
"""
