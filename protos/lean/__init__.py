"""Lean messages: what the guest and the short-lived commands import instead of the rich ones.

- `wire`: protobuf's wire format, strict and bounded.
- `message`: the base class of lean messages, the base class of lean services.
- `generator`: writes `gen/` from the .proto files; needed by developers only.
- `gen/`: one module per protobuf package, with types in the `.pyi` beside it.

Class and attribute names equal the rich messages' names. Nothing here imports anything outside the standard library
(a service that is served needs grpclib's constants), nor asyncio, typing, enum or re: the guest pays for imports.
"""
