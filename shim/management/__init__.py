"""The pod's management socket: HTTP for root on this host, with the requests of Kata's shim.

Glossary:

- *socket*: `shim-monitor.sock` in the pod's run directory, where Kata's own tools look for it.
- *exposition*: Prometheus' text format; what the guest says in it is read, checked and written anew.
- *facts*: what `kata-ctl` asks for beside Kata's requests, as JSON.

`http`, `server`, `exposition`, `paths` and `client` know no pod: the command `kata-ctl` uses them too.
"""
