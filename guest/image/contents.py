"""What of the packages goes into the image: a list of what is wanted, not of what is not.

Programs are named one by one; shared libraries follow from what the programs and Python's extension modules need;
of Python's library all goes in except the rules below.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from guest.image import elf, tree
from guest.image.errors import BuildError
from guest.image.packages import PYTHON

PROGRAMS = (
    f"usr/bin/{PYTHON}",
    "usr/bin/busybox",
    "usr/bin/crun",
    "usr/bin/ip",
    "usr/sbin/e2fsck",
    "usr/sbin/mke2fs",
    "usr/sbin/resize2fs",
    "usr/sbin/tc",
    "usr/sbin/xtables-nft-multi",
)
CONFIGURATION = ("etc/mke2fs.conf",)
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARY_DIRECTORY = "usr/lib/x86_64-linux-gnu"
PYTHON_LIBRARY = f"usr/lib/{PYTHON}"

# iptables loads one for each match and target that a rule names; arptables and ebtables are not served.
XTABLES_EXTENSIONS = tuple(f"{LIBRARY_DIRECTORY}/xtables/{kind}_*.so" for kind in ("libip6t", "libipt", "libxt"))

# busybox' programs with a name of their own: for the debug console, for hooks, and modprobe for the kernel itself.
APPLETS = (
    "usr/bin/cat", "usr/bin/chmod", "usr/bin/cp", "usr/bin/date", "usr/bin/df", "usr/bin/dmesg", "usr/bin/echo",
    "usr/bin/env", "usr/bin/false", "usr/bin/find", "usr/bin/free", "usr/bin/grep", "usr/bin/head", "usr/bin/hostname",
    "usr/bin/kill", "usr/bin/less", "usr/bin/ln", "usr/bin/ls", "usr/bin/mkdir", "usr/bin/mount", "usr/bin/mv",
    "usr/bin/nc", "usr/bin/ping", "usr/bin/ps", "usr/bin/rm", "usr/bin/sed", "usr/bin/sh", "usr/bin/sleep",
    "usr/bin/sync", "usr/bin/tail", "usr/bin/top", "usr/bin/true", "usr/bin/umount", "usr/bin/uname", "usr/bin/vi",
    "usr/sbin/blkid", "usr/sbin/fstrim", "usr/sbin/insmod", "usr/sbin/lsmod", "usr/sbin/modprobe", "usr/sbin/poweroff",
    "usr/sbin/reboot", "usr/sbin/rmmod", "usr/sbin/sysctl",
)  # fmt: skip

# Below PYTHON_LIBRARY. ssl goes because asyncio would load it, which takes 50 ms and 5 MB, and the agent's only peer
# is the host; with it go the extension modules that need OpenSSL.
PYTHON_UNWANTED = (
    "__phello__*", "_sysconfigdata*", "antigravity.py", "config-*", "ctypes/macholib/*", "ctypes/test/*", "curses/*",
    "dbm/*", "distutils/*", "ensurepip/*", "idlelib/*", "lib2to3/*", "msilib/*", "pydoc.py", "pydoc_data/*",
    "ssl.py", "sitecustomize.py", "sqlite3/*", "test/*", "this.py", "tkinter/*", "turtle.py", "turtledemo/*",
    "unittest/*", "venv/*", "wsgiref/*", "xmlrpc/*", "*.txt", "*.exe",
    "encodings/big5*", "encodings/cp[0-9]*", "encodings/euc_*", "encodings/gb*", "encodings/hp_*", "encodings/hz.py",
    "encodings/iso*", "encodings/johab.py", "encodings/koi8_*", "encodings/kz*", "encodings/mac_*",
    "encodings/ptcp*", "encodings/shift_*", "encodings/tis_*",
    "lib-dynload/_bz2.*", "lib-dynload/_codecs_*", "lib-dynload/_crypt.*", "lib-dynload/_ctypes_test.*",
    "lib-dynload/_curses*", "lib-dynload/_dbm.*", "lib-dynload/_hashlib.*", "lib-dynload/_lzma.*",
    "lib-dynload/_multibytecodec.*", "lib-dynload/_sqlite3.*", "lib-dynload/_ssl.*", "lib-dynload/_test*",
    "lib-dynload/_tkinter.*", "lib-dynload/_xxtestfuzz.*", "lib-dynload/audioop.*", "lib-dynload/nis.*",
    "lib-dynload/ossaudiodev.*", "lib-dynload/readline.*", "lib-dynload/xx*",
)  # fmt: skip


def is_library(path: str) -> bool:
    """Return whether `path` is where shared libraries are: candidates, of which only the needed ones stay."""
    return posixpath.dirname(path) in (LIBRARY_DIRECTORY, posixpath.dirname(LOADER)) and ".so" in path


def is_python(path: str) -> bool:
    """Return whether `path` is a wanted file of Python's library."""
    prefix = f"{PYTHON_LIBRARY}/"
    if not path.startswith(prefix) or "/__pycache__/" in path:
        return False
    rest = path[len(prefix) :]
    return path.endswith((".py", ".so")) and not any(fnmatchcase(rest, rule) for rule in PYTHON_UNWANTED)


def is_extension(path: str) -> bool:
    """Return whether `path` is an extension of iptables."""
    return any(fnmatchcase(path, rule) for rule in XTABLES_EXTENSIONS)


def is_wanted(path: str) -> bool:
    """Return whether a packaged file is worth unpacking: wanted, or a library that may turn out to be needed."""
    return path in PROGRAMS or path in CONFIGURATION or is_python(path) or is_extension(path) or is_library(path)


def select(packaged: tree.Tree, beside: tree.Tree | None = None) -> tree.Tree:
    """Return the part of the unpacked packages that the image gets.

    `beside` is what comes from elsewhere, and may bring libraries of its own. Raises BuildError if a program is
    missing, or a library that something in the image is linked with.
    """
    missing = [path for path in (*PROGRAMS, *CONFIGURATION) if path not in packaged]
    if missing:
        raise BuildError(f"the packages do not contain {', '.join(missing)}")
    chosen = {path: node for path, node in packaged.items() if not is_library(path)}
    libraries = {path: node for path, node in packaged.items() if is_library(path)}
    for path in library_closure({**chosen, **(beside or {})}, libraries):
        chosen[path] = libraries[path]
    return chosen


def library_closure(programs: Mapping[str, tree.Node], libraries: tree.Tree) -> set[str]:
    """Return the paths in `libraries`, links included, that `programs` and those libraries themselves are linked with.

    A library that is among `programs` is found there (by a run path). Raises BuildError for one that is not there.
    """
    needed = {LOADER}
    brought = {posixpath.basename(path) for path in programs}
    queue = [(LOADER, name) for name in _needs(LOADER, libraries)]
    queue += [(path, name) for path in sorted(programs) for name in _needs(path, programs)]
    while queue:
        by, name = queue.pop()
        path = LOADER if name == posixpath.basename(LOADER) else f"{LIBRARY_DIRECTORY}/{name}"
        if path not in needed and name not in brought:
            if path not in libraries:
                raise BuildError(f"{by} needs {name}, which no package brings")
            needed.add(path)
            queue += [(path, more) for more in _needs(path, libraries)]
    return needed | {tree.resolve(libraries, path) for path in needed}


def _needs(path: str, nodes: Mapping[str, tree.Node]) -> Iterable[str]:
    try:
        data = nodes[tree.resolve(dict(nodes), path)].data
        return elf.needed_libraries(data) if elf.is_elf(data) else ()
    except (KeyError, elf.ElfError) as error:
        raise BuildError(f"{path} cannot be read: {error}") from error
