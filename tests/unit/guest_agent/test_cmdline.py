"""The agent's options on the kernel command line."""

from __future__ import annotations

import pytest

from guest.agent import cmdline


def test_options_are_read():
    options = cmdline.parse(
        "quiet agent.log=debug agent.hotplug_timeout=7 agent.container_pipe_size=65536 agent.devmode"
    )

    assert (options.log_level, options.hotplug_timeout, options.pipe_size, options.developer) == (
        "debug",
        7.0,
        65536,
        True,
    )


def test_the_vsock_port_is_the_last_part_of_the_server_address():
    assert cmdline.parse("agent.server_addr=vsock://-1:2048").port == 2048


@pytest.mark.parametrize(
    "line",
    [
        "",
        "agent.log=",
        "agent.hotplug_timeout=x",
        "agent.hotplug_timeout=0",
        "agent.server_addr=vsock://:",
        "agent.unknown=1",
    ],
)
def test_what_is_malformed_or_unknown_leaves_the_defaults(line):
    options = cmdline.parse(line)

    assert (options.log_level, options.hotplug_timeout, options.port, options.pipe_size) == ("info", 3.0, 1024, 0)


def test_without_proc_the_defaults_hold(tmp_path):
    assert cmdline.read(str(tmp_path)).port == 1024
