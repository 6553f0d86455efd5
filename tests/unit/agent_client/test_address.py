"""The agent URL: four forms and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.address import AddressError, HybridVsock, Serial, Unix, Vsock, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("serial:///run/kata/s1/agent", Serial("/run/kata/s1/agent")),
        ("unix:///tmp/a b", Unix("/tmp/a b")),
        ("vsock://3:1024", Vsock(3, 1024)),
        ("vsock://4294967294:1", Vsock(2**32 - 2, 1)),
        ("hvsock:///run/vm/kata.hvsock:1024", HybridVsock("/run/vm/kata.hvsock", 1024)),
        ("hvsock:///run/a:b:1024", HybridVsock("/run/a:b", 1024)),
    ],
)
def test_a_url_is_parsed_and_printed_as_it_was(url, address):
    assert parse(url) == address
    assert str(address) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no scheme"),
        ("/run/kata/agent", "no scheme"),
        ("serial:/run/kata/agent", "no scheme"),
        ("http://x", "none of serial, vsock, hvsock, unix"),
        ("UNIX:///x", "none of serial, vsock, hvsock, unix"),
        ("unix://", "not absolute and plain"),
        ("unix://relative", "not absolute and plain"),
        ("unix:////x", "not absolute and plain"),
        ("unix:///x/", "not absolute and plain"),
        ("unix:///x//y", "not absolute and plain"),
        ("unix:///x/./y", "not absolute and plain"),
        ("unix:///x\0", "not absolute and plain"),
        ("unix:///x\n", "not absolute and plain"),
        ("unix:///x/../y", "has a '..'"),
        ("serial:///" + "x" * 107, "longer than the 107 bytes"),
        ("unix:///" + "ä" * 60, "longer than the 107 bytes"),
        ("vsock://3", "no port"),
        ("vsock://0:1024", "context id is not a number from 1"),
        ("vsock://03:1024", "context id is not a number from 1"),
        ("vsock://4294967295:1024", "context id is not a number from 1"),
        ("vsock://-1:1024", "context id is not a number from 1"),
        ("vsock://٣:1024", "context id is not a number from 1"),
        ("vsock://3:0", "port is not a number from 1"),
        ("vsock://3:99999999999", "port is not a number from 1"),
        ("hvsock:///x", "no port"),
        ("hvsock://x:1", "not absolute and plain"),
    ],
)
def test_anything_else_is_an_error_that_says_why(url, why):
    with pytest.raises(AddressError, match=why) as caught:
        parse(url)

    assert str(caught.value).isprintable()


@given(st.text(max_size=50))
def test_any_text_is_an_address_or_an_address_error(text):
    try:
        address = parse(text)
    except AddressError as error:
        holds = len(str(error)) < 1200
    else:
        holds = str(address) == text
    assert holds
