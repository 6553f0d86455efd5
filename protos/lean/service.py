"""The base class of lean services: what a ttrpc or gRPC server asks a service for, from a table of methods."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from grpclib import GRPCError
    from grpclib.const import Handler


class Service:
    """A service whose methods are coroutines of one request that return one reply.

    A subclass of a generated base overrides the methods it has; the others answer UNIMPLEMENTED.
    """

    # (route, method name, request class, reply class) of each method.
    METHODS: "tuple[tuple[str, str, type, type], ...]" = ()

    def __mapping__(self) -> "dict[str, Handler]":
        """The handlers by route, as grpclib's and ttrpc's servers take them."""
        from grpclib.const import Cardinality, Handler

        return {
            route: Handler(_unary(getattr(self, name)), Cardinality.UNARY_UNARY, request, reply)
            for route, name, request, reply in self.METHODS
        }


def unimplemented(method: str) -> "GRPCError":
    """The error of a method that a service does not have."""
    from grpclib import GRPCError
    from grpclib.const import Status

    return GRPCError(Status.UNIMPLEMENTED, f"method {method}")


def _unary(method: "Callable[[Any], Awaitable[Any]]") -> "Callable[[Any], Awaitable[None]]":
    async def handle(stream: "Any") -> None:
        await stream.send_message(await method(await stream.recv_message()))

    return handle
