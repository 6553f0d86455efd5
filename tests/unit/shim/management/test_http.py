"""HTTP as far as it goes: what is read, what is refused, and within which bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.management import http
from shim.management.http import HttpError, Request, Response, parse_query, quote, read_request, read_response, unquote

pytestmark = pytest.mark.anyio


class Connection:
    """Gives `data` in pieces of at most `size` bytes; counts how much was taken."""

    def __init__(self, data: bytes, size: int = 1 << 20) -> None:
        self._data = data
        self._size = size
        self.taken = 0

    async def receive(self, size: int) -> bytes:
        piece = self._data[self.taken : self.taken + min(size, self._size)]
        self.taken += len(piece)
        return piece


async def refused(data: bytes) -> int:
    with pytest.raises(HttpError) as caught:
        await read_request(Connection(data).receive)
    assert str(caught.value).isprintable()
    return caught.value.status


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_a_request_is_read_whole_however_it_comes(size: int) -> None:
    data = b"PUT /iptables?a=b%20c&a=d+e&x HTTP/1.1\r\nHost: shim\r\nContent-Length: 5\r\n\r\nrules and more"

    request = await read_request(Connection(data, size).receive)

    assert request == Request("PUT", "/iptables", {"a": "d e", "x": ""}, b"rules")


async def test_a_connection_without_a_request_is_none() -> None:
    assert await read_request(Connection(b"").receive) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /metrics\r\n\r\n", 400),
        (b"get /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET http://shim/metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /met\x00rics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length : 3\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: -3\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Le", 400),
        (b"PUT /policy HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"PUT /policy HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
    ],
)
async def test_what_is_no_plain_request_is_refused(data: bytes, status: int) -> None:
    assert await refused(data) == status


async def test_a_head_without_end_is_given_up() -> None:
    connection = Connection(b"GET /" + b"a" * (1 << 20))

    with pytest.raises(HttpError) as caught:
        await read_request(connection.receive)

    assert caught.value.status == 431
    assert connection.taken <= 3 * http.HEAD_MAX


@given(st.binary(max_size=300))
async def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    for start in (b"", b"GET /x HTTP/1.1\r\n"):
        try:
            request = await read_request(Connection(start + data + b"\r\n\r\n").receive)
        except HttpError:
            continue
        assert request is None or request.path.startswith("/")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_quoted_text_comes_back(text: str) -> None:
    assert unquote(quote(text)) == text


def test_the_last_value_of_a_name_counts() -> None:
    assert parse_query("a=1&&a=2&b") == {"a": "2", "b": ""}


async def test_a_response_is_read_back() -> None:
    data = Response(b"hello", 404).encode()

    assert await read_response(Connection(data).receive, 100) == (404, b"hello")


async def test_an_overlong_answer_is_refused() -> None:
    with pytest.raises(HttpError, match="larger than 4 bytes"):
        await read_response(Connection(Response(b"hello").encode()).receive, 4)
