"""`python -m guest.image --out DIR`: build the guest's kernel, initrd and image, if they are not built already."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from guest.image.builder import build
from guest.image.errors import BuildError
from guest.image.packages import MIRROR, SECURITY_MIRROR, SUITE, Request
from guest.image.progress import note


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the builder; return the exit status. Progress goes to stderr, the guest's directory to stdout."""
    options = _parser().parse_args(arguments)
    request = Request(mirror=options.mirror, security_mirror=options.security_mirror)
    started = time.monotonic()
    try:
        guest = build(options.out, request=request, refresh=options.refresh)
    except BuildError as error:
        print(f"guest: cannot build: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"guest: cannot build: {error.filename or options.out}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("guest: interrupted; what is built so far is thrown away", file=sys.stderr)
        return 130
    state = "built" if guest.fresh else "up to date"
    note(f"{state} in {time.monotonic() - started:.1f} s: {guest.key}")
    print(guest.directory)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m guest.image", description="Build the guest's kernel, initrd and root image."
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for the guest, its cache and its packages")
    parser.add_argument("--refresh", action="store_true", help=f"take the newest packages of {SUITE} from the mirror")
    parser.add_argument("--mirror", default=MIRROR, help="Debian mirror (default: %(default)s)")
    parser.add_argument("--security-mirror", default=SECURITY_MIRROR, help="its security mirror (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
