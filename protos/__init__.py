"""The messages that the shim, the agent and their tests exchange, and the two ways to hold them.

- `src/`: the .proto files, one folder per protobuf package; the only thing here that is written by hand for a protocol.
- `gen/`: rich messages (betterproto2 dataclasses) with stubs and service bases, for the daemon and the tests.
- `lean/gen/`: lean messages (`__slots__`, standard library only), for the guest and for the `start` and `delete` paths.
- `codec`: one `encode` and one strict `decode` for both; `rich` (tables per class) and `lean.wire` do the work.
- `anys` and `timestamps`: the conventions around those two messages.
- `generate`: writes both generated trees (`make protos`), and says which files are stale (`--check`).
"""
