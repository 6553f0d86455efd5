"""What goes into the image and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guest.image import contents, skeleton, tree
from guest.image.errors import BuildError

Make = Callable[..., bytes]
LIB = contents.LIBRARY_DIRECTORY
PY = contents.PYTHON_LIBRARY


@pytest.mark.parametrize(
    "path",
    [
        f"{PY}/asyncio/events.py",
        f"{PY}/os.py",
        f"{PY}/encodings/utf_8.py",
        f"{PY}/encodings/idna.py",
        f"{PY}/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so",
        "usr/bin/crun",
        f"{LIB}/libc.so.6",
        f"{LIB}/xtables/libxt_comment.so",
    ],
)
def test_what_the_agent_runs_on_is_wanted(path: str) -> None:
    assert contents.is_wanted(path)


@pytest.mark.parametrize(
    "path",
    [
        f"{PY}/ssl.py",
        f"{PY}/test/support/__init__.py",
        f"{PY}/idlelib/help.html",
        f"{PY}/__pycache__/os.cpython-311.pyc",
        f"{PY}/encodings/cp1252.py",
        f"{PY}/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
        f"{PY}/lib-dynload/_hashlib.cpython-311-x86_64-linux-gnu.so",
        f"{LIB}/xtables/libebt_arp.so",
        "usr/bin/dpkg",
        "usr/share/doc/crun/copyright",
        "usr/share/locale/de/LC_MESSAGES/e2fsprogs.mo",
    ],
)
def test_what_it_does_not_need_stays_out(path: str) -> None:
    assert not contents.is_wanted(path)


def _packaged(make_program: Make) -> tree.Tree:
    packaged = {path: tree.file(make_program("libc.so.6"), 0o755) for path in contents.PROGRAMS}
    packaged |= {path: tree.file(b"") for path in contents.CONFIGURATION}
    packaged[contents.LOADER] = tree.symlink(f"/lib/{LIB.rsplit('/', 1)[-1]}/ld-linux-x86-64.so.2")
    packaged[f"{LIB}/ld-linux-x86-64.so.2"] = tree.file(make_program())
    packaged[f"{LIB}/libc.so.6"] = tree.file(make_program("ld-linux-x86-64.so.2"))
    return packaged


def test_only_libraries_that_something_is_linked_with_stay_with_their_links(make_program: Make) -> None:
    packaged = _packaged(make_program)
    packaged["usr/bin/crun"] = tree.file(make_program("libyajl.so.2"), 0o755)
    packaged[f"{LIB}/libyajl.so.2"] = tree.symlink("libyajl.so.2.1")
    packaged[f"{LIB}/libyajl.so.2.1"] = tree.file(make_program("libm.so.6"))
    packaged[f"{LIB}/libm.so.6"] = tree.file(make_program("libc.so.6"))
    packaged[f"{LIB}/libcrypto.so.3"] = tree.file(make_program("libc.so.6"))

    chosen = contents.select(packaged)

    assert set(packaged) - set(chosen) == {f"{LIB}/libcrypto.so.3"}


def test_a_library_that_comes_with_its_user_is_not_looked_for_in_the_packages(make_program: Make) -> None:
    packaged = _packaged(make_program)
    packaged[f"{LIB}/libm.so.6"] = tree.file(make_program("libc.so.6"))
    engine = {
        "usr/lib/kata-agent/e/librego.so": tree.file(make_program("libcrypto-05e6.so.3", "libm.so.6")),
        "usr/lib/kata-agent/e.libs/libcrypto-05e6.so.3": tree.file(make_program("libc.so.6")),
    }

    chosen = contents.select(packaged, engine)

    assert f"{LIB}/libm.so.6" in chosen
    assert not chosen.keys() & engine.keys()


def test_a_missing_library_is_an_error_that_names_who_needs_it(make_program: Make) -> None:
    packaged = _packaged(make_program)
    packaged["usr/bin/ip"] = tree.file(make_program("libmnl.so.0"), 0o755)

    with pytest.raises(BuildError, match=r"usr/bin/ip needs libmnl\.so\.0"):
        contents.select(packaged)


def test_a_missing_program_is_an_error_that_names_it(make_program: Make) -> None:
    packaged = _packaged(make_program)
    del packaged["usr/bin/crun"]

    with pytest.raises(BuildError, match="usr/bin/crun"):
        contents.select(packaged)


def test_the_skeleton_has_the_mount_points_and_every_link_leads_somewhere(make_program: Make) -> None:
    nodes = tree.with_parents({**skeleton.nodes(), **_packaged(make_program)})

    for path in ("proc", "sys", "dev", "run", "tmp", "var/tmp"):
        assert path in nodes
    outside = {"etc/mtab", "etc/resolv.conf", "var/run"}
    for path, node in skeleton.nodes().items():
        if node.target and path not in outside and path not in tree.MERGED:
            assert tree.resolve(nodes, path)


def test_resolv_conf_can_be_written_on_a_read_only_root() -> None:
    assert skeleton.nodes()["etc/resolv.conf"].target == "../run/resolv.conf"
