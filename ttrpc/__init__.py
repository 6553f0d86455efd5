"""ttrpc: containerd's RPC protocol for shims and guest agents, with the interfaces of grpclib.

The nouns, from the wire up:

- A *frame* is a 10-byte header (length, stream id, type, flags) and a payload of at most 4 MiB (`ttrpc.frame`).
- An *envelope* is the protobuf message in a request or response frame: which method, under which deadline and metadata,
  or with which status; around the bytes of the caller's own message (`ttrpc.envelope`, on `ttrpc.wire`).
- A *stream* is one call: a request, perhaps data both ways, one end. `ttrpc.server_streams` and `ttrpc.client_streams`
  are the tables of one connection's streams, for each role. They do no I/O: bytes in, events out, bytes to send.
- A *connection* (`ttrpc.connection`) is an asyncio protocol that moves those bytes and holds back whoever is too fast.
- A *call* is a stream as a handler (`ttrpc.server_call`) or a stub (`ttrpc.client_call`) sees it.
- A *codec* (`ttrpc.codec`) turns messages into bytes and back: this package knows no message of its own.
- `ttrpc.server.Server` serves objects that have grpclib's `__mapping__()`; `ttrpc.client.Channel` has grpclib's
  `request()`, which generated stubs call. `ttrpc.fdtransport` carries either over a character device.

The protocol is that of github.com/containerd/ttrpc (PROTOCOL.md), versions 1.1 (unary) to 1.2 (streaming).
The package needs the standard library, `grpclib.const` and `grpclib.exceptions`, and runs on asyncio and uvloop.
"""
