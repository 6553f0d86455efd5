"""vCPUs that come and go while the VM runs, each in a socket of its own (`hypervisor.devices.Cpus`).

QMP reference: `query-hotpluggable-cpus` lists every place for a vCPU with the properties that `device_add` wants, and a
`qom-path` where one is. Those the VM booted with have no id, and stay. QEMU keeps the object of a vCPU that is gone, so
that no DEVICE_DELETED tells of it: the list does, and ACPI_DEVICE_OST is the guest's word that it has let go, or won't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from hypervisor.errors import HypervisorError, QmpError, VmGoneError
from hypervisor.hotplug.plug import UNPLUG_TIMEOUT, Hotplug

#: QEMU's own prefix of the QOM path of a device that has an id.
_PERIPHERAL = "/machine/peripheral/"
_ID_PREFIX = "vcpu-"
_ANSWER = "ACPI_DEVICE_OST"
#: ACPI 6.4, table 6.55 and 6.57: an ejection is the source, and is done or under way.
_EJECTION = 3
_NO_REFUSALS = frozenset({0, 0x84})
#: How often the list is looked at where no event comes, in seconds.
_LOOK_AGAIN = 0.5


class Vcpus:
    """The vCPUs of one VM; legal while it runs."""

    def __init__(self, hotplug: Hotplug, *, can_go: bool = True) -> None:
        """`can_go`: whether a vCPU may be unplugged at all."""
        self._hotplug = hotplug
        self._can_go = can_go

    async def count(self) -> int:
        """How many there are now."""
        return sum(_is_there(place) for place in await self._places())

    async def threads(self) -> list[int]:
        """Ids of QEMU's threads that run vCPUs (QMP `query-cpus-fast`); one may run several."""
        answer = await self._hotplug.execute("query-cpus-fast")
        return sorted({int(cpu["thread-id"]) for cpu in answer or []})

    async def grow(self, count: int) -> int:
        """Have at least `count`; returns how many were plugged in, which the guest has to set online.

        Raises `HypervisorError` when QEMU has no place for so many, or refuses: then none was plugged in, or, where
        none can go, those stay that came. Who is cancelled hears of it when all are there.
        """
        places = await self._places()
        missing = count - sum(map(_is_there, places))
        free = [place for place in places if not _is_there(place)]
        if missing > len(free):
            raise HypervisorError(f"the VM can have {len(places)} vCPUs, not {count}")
        chosen = free[: max(0, missing)]
        with anyio.CancelScope(shield=True):
            await self._add(chosen)
        return len(chosen)

    async def _add(self, places: Sequence[dict[str, Any]]) -> None:
        tried: list[str] = []
        try:
            for place in places:
                tried.append(f"{_ID_PREFIX}{place['props']['socket-id']}")
                await self._hotplug.add(place["type"], tried[-1], place["props"])
        except HypervisorError:
            # The last one, too, may have come, and been answered too late.
            with anyio.move_on_after(UNPLUG_TIMEOUT):
                for name in reversed(tried) if self._can_go else ():
                    await self._remove(name, UNPLUG_TIMEOUT)
            raise

    async def shrink(self, count: int, timeout: float = UNPLUG_TIMEOUT) -> HypervisorError | None:
        """Have `count`, or as few as the guest lets go of, the last plugged in going first; returns what stopped it.

        Those the VM booted with can't go, which is no error. `timeout` (seconds) is for each.
        """
        places = await self._places()
        surplus = sum(map(_is_there, places)) - count
        for name in _plugged(places)[::-1][: max(0, surplus)]:
            if error := await self._remove(name, timeout):
                return error
        return None

    async def _remove(self, name: str, timeout: float) -> HypervisorError | None:
        """Have the guest let go of a vCPU; returns why it still has it."""
        async with self._hotplug.listening(_ANSWER) as events:
            try:
                with anyio.fail_after(timeout):
                    await self._hotplug.execute("device_del", {"id": name})
                    while name in _plugged(await self._places()):
                        with anyio.move_on_after(_LOOK_AGAIN):
                            _check_answer(name, (await events.get())[1])
            except TimeoutError:
                return HypervisorError(f"unplug {name}: the guest did not let go of it within {timeout:g} s")
            except VmGoneError:
                return None
            except QmpError as error:
                return HypervisorError(f"unplug {name}: {error}")
            except HypervisorError as error:
                return error
        return None

    async def _places(self) -> list[dict[str, Any]]:
        """All places for vCPUs, those of the lowest number first."""
        answer = await self._hotplug.execute("query-hotpluggable-cpus")
        return sorted(answer or [], key=lambda place: sorted(place["props"].items()))


def _check_answer(name: str, data: Mapping[str, Any]) -> None:
    """Raise `HypervisorError` if the guest says that it keeps the vCPU."""
    info = data.get("info", {})
    if info.get("device") == name and info.get("source") == _EJECTION and info.get("status") not in _NO_REFUSALS:
        raise HypervisorError(f"unplug {name}: the guest refused (ACPI status {info.get('status')})")


def _is_there(place: dict[str, Any]) -> bool:
    return "qom-path" in place


def _plugged(places: Sequence[dict[str, Any]]) -> list[str]:
    """Ids of the vCPUs that can go."""
    paths = [str(place["qom-path"]) for place in places if _is_there(place)]
    return [path.removeprefix(_PERIPHERAL) for path in paths if path.startswith(_PERIPHERAL + _ID_PREFIX)]
