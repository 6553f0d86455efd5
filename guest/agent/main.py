"""Where the guest's first process begins: `python3 -c 'from guest.agent.main import main; main()'`, or `-m`.

As process 1 it mounts what the kernel leaves to it, and whatever happens it ends the machine: a virtual machine whose
agent is gone is of no use, and its host is waiting to hear that.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the agent; as the first process this never returns."""
    is_init = os.getpid() == 1
    # Nothing of what start-up makes is garbage; `daemon` turns the collector on again.
    gc.disable()
    _fill_stdio()
    # asyncio imports ssl if it can, and nothing here speaks TLS.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        if is_init:
            from guest.agent import boot

            boot.mount_all()
            boot.name_machine()
        from guest.agent import daemon

        daemon.run(is_init)
    except BaseException as error:
        _complain(error)
        if not is_init:
            raise
    finally:
        if is_init:
            _end_machine()


def _fill_stdio() -> None:
    """Without a console the kernel leaves descriptors 0 to 2 closed, and others must not take their places."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _complain(error: BaseException) -> None:
    """Say on the console why the agent ends, with the places it came through."""
    import traceback

    text = "".join(traceback.format_exception(error))[-4000:]
    try:
        os.write(2, f"kata-agent failed:\n{text}".encode("utf-8", "replace"))
    except OSError:
        pass


def _end_machine() -> None:
    from guest.agent import boot

    boot.power_off()


if __name__ == "__main__":
    main()
