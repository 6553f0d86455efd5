"""What every guest of a host has: files of the host (`sandbox_bind_mounts`), and hooks among them (`guest_hook_path`);
and what is run of a pod's own hooks when its daemon is killed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from grpclib.const import Status

from protos.gen.containerd.task.v2 import CreateTaskRequest, StateRequest, TaskStub
from tests.integration.faults.direct import (
    BOOT_TIMEOUT,
    CALL_TIMEOUT,
    Direct,
    connect,
    packed_options,
    shut_down,
    start,
)
from tests.integration.hooks.test_hooks import fails, make, recorded, recorder, runs_to

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

POD = "hookpod"
_SHARED = "/run/kata-containers/shared/containers/sandbox-mounts"
#: Lies on the host and is run by the guest, whose only interpreter it names; what it tells goes to the host, too.
_HOOK = f"""#!/usr/bin/python3 -ISB
import sys
state = sys.stdin.read()
with open("{_SHARED}/told/log", "a") as log:
    log.write(sys.argv[1] + " 0 " + state + "\\n")
try:
    open(__file__, "a")
except OSError:
    if sys.argv[1] == "prestart" and "unwanted" in state:
        sys.exit("not this one")
else:
    sys.exit("the host's file could be written")
"""


class GuestHooks:
    """A configuration with hooks of the guest, which lie in a directory of the host."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "told" / "log"
        self.log.parent.mkdir()
        hooks = directory / "guest-hooks"
        for kind in ("prestart", "poststart", "poststop"):
            path = hooks / kind / "tell"
            path.parent.mkdir(parents=True)
            path.write_text(_HOOK)
            path.chmod(0o755)
        self.settings = (
            f'[hypervisor.qemu]\nguest_hook_path = "{_SHARED}/guest-hooks"\n'
            f'[runtime]\nsandbox_bind_mounts = ["{hooks}", "{self.log.parent}:rw"]\n'
        )

    def told(self) -> list[tuple[str, str]]:
        """Kinds of the hooks that ran, and the containers they ran for."""
        return [(kind, state["id"]) for kind, _, state in recorded(self.log)]


@pytest.fixture
def guest_hooks(tmp_path: Path) -> GuestHooks:
    """Hooks of the guest."""
    return GuestHooks(tmp_path)


def configured(direct: Direct, request: CreateTaskRequest, settings: str) -> CreateTaskRequest:
    """The request under the configuration with further settings."""
    place = direct.directory / "kata" / "configuration.toml"
    (place.parent / "config.d").mkdir(parents=True)
    place.write_text(direct.configuration.read_text())
    (place.parent / "config.d" / "50-test.toml").write_text(settings)
    request.options = packed_options(place)
    return request


async def test_hooks_from_the_host_run_in_the_guest_and_a_killed_daemon_s_are_made_up_for(
    direct: Direct, guest_hooks: GuestHooks, tmp_path: Path
) -> None:
    """One guest for both."""
    after = tmp_path / "after"
    poststop = {"poststop": [recorder(after, "poststop")]}
    request = configured(direct, make(direct, POD, poststop), guest_hooks.settings)
    async with connect(direct.start_bundle(POD)) as task:
        await task.create(request, timeout=BOOT_TIMEOUT)
        await start(task, POD)
        assert guest_hooks.told() == [("prestart", POD), ("poststart", POD)]

        await _check_members(direct, task, guest_hooks)
        await task.create(make(direct, "stays", poststop), timeout=CALL_TIMEOUT)
        assert not after.exists()
        direct.shim.kill_daemons(POD)
    for _ in range(2):
        direct.shim.delete("stays", direct.directory / "stays").check()
        direct.shim.delete(POD, direct.directory / POD).check()

    assert [(word, state["id"], state["status"]) for word, _, state in recorded(after)] == [
        ("poststop", POD, "stopped"),
        ("poststop", "stays", "stopped"),
    ]


async def _check_members(direct: Direct, task: TaskStub, guest_hooks: GuestHooks) -> None:
    """They run for every container, around its life; a failing one fails its container in its own words."""
    hidden = ("sh", "-c", f"[ ! -e {_SHARED} ] && exit 4")
    await task.create(make(direct, "wanted", {}, *hidden), timeout=CALL_TIMEOUT)
    assert await runs_to(task, "wanted") == 4, "a container sees what only the guest is to see"
    kinds = [kind for kind, container in guest_hooks.told() if container == "wanted"]
    assert kinds == ["prestart", "poststart", "poststop"]

    await fails(task.create(make(direct, "unwanted", {}), timeout=CALL_TIMEOUT), "prestart hook", "not this one")
    assert (await fails(task.state(StateRequest(id="unwanted")))).status is Status.NOT_FOUND


async def test_a_path_that_the_host_does_not_have_fails_the_pod_with_the_key_s_name(direct: Direct) -> None:
    settings = '[runtime]\nsandbox_bind_mounts = ["/no/such/path"]\n'
    request = configured(direct, make(direct, POD, {}), settings)
    async with connect(direct.start_bundle(POD)) as task:
        words = ("phase share", "sandbox_bind_mounts: mount source /no/such/path: No such file or directory")
        error = await fails(task.create(request, timeout=BOOT_TIMEOUT), *words)
        assert error.status is Status.INVALID_ARGUMENT
        await shut_down(task)
