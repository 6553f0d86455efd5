"""apt's answers, the lock, and the resolving of packages with an apt that is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest.image import packages
from guest.image.errors import BuildError
from guest.image.packages import Apt, Lock, Package, Request

#: Like the real one it does not name what it would not have to fetch.
FAKE_APT_GET = """#!/bin/sh
for word; do case $word in
    update) exit 0 ;;
    --print-uris) printing=1 ;;
    install) files="crun_1.8%2b1_amd64.deb busybox_1%3a1_amd64.deb" ;;
    download) files="linux-image-6.1_6.1.9_amd64.deb" ;;
esac; done
for file in $files; do
    if [ -z "$printing" ]; then echo "$file" >"$file"; continue; fi
    [ -e "$file" ] || echo "'http://mirror/pool/$file' $file 4 SHA256:0"
done
"""
FAKE_APT_CACHE = "#!/bin/sh\necho 'Package: linux-image-cloud-amd64'\necho 'Depends: linux-image-6.1 (= 6.1.9)'\n"


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an apt on the PATH that knows three packages, and a keyring where the builder looks for it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "apt-get": FAKE_APT_GET,
        "apt-cache": FAKE_APT_CACHE,
        "apt-config": "#!/bin/sh\necho \"P0='http://p:1'\"\n",
    }
    for name, script in scripts.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(packages, "KEYRING", keyring)
    return programs


def test_resolving_yields_names_versions_and_digests_of_what_apt_fetched(fake_apt: Path, tmp_path: Path) -> None:
    apt = Apt(tmp_path / "apt", Request())

    lock = apt.resolve()

    versions = {package.name: package.version for package in lock.packages}
    assert versions == {"busybox": "1:1", "crun": "1.8+1", "linux-image-6.1": "6.1.9"}
    assert lock.kernel == "linux-image-6.1"
    assert apt.has(lock)
    assert all(apt.file(package).is_file() for package in lock.packages)


def test_what_is_in_the_archives_already_is_resolved_as_well(fake_apt: Path, tmp_path: Path) -> None:
    apt = Apt(tmp_path / "apt", Request())

    assert apt.resolve() == apt.resolve()


def test_packages_of_an_older_lock_are_removed(fake_apt: Path, tmp_path: Path) -> None:
    apt = Apt(tmp_path / "apt", Request())
    apt.archives.mkdir(parents=True)
    old = apt.archives / "crun_1.7_amd64.deb"
    old.touch()

    apt.resolve()

    assert not old.exists()


def test_a_damaged_package_is_noticed(fake_apt: Path, tmp_path: Path) -> None:
    apt = Apt(tmp_path / "apt", Request())
    package = apt.resolve().packages[0]
    (apt.archives / package.file).write_text("damaged")

    with pytest.raises(BuildError, match="damaged: build again with --refresh"):
        apt.file(package)


def test_a_missing_package_makes_the_lock_unusable(fake_apt: Path, tmp_path: Path) -> None:
    apt = Apt(tmp_path / "apt", Request())
    lock = apt.resolve()
    (apt.archives / lock.packages[0].file).unlink()

    assert not apt.has(lock)


def test_apt_failing_is_told_with_its_reason(fake_apt: Path, tmp_path: Path) -> None:
    (fake_apt / "apt-get").write_text("#!/bin/sh\necho 'E: no route to mirror' >&2\nexit 100\n")

    with pytest.raises(BuildError, match="apt-get failed with status 100: E: no route to mirror"):
        Apt(tmp_path / "apt", Request()).resolve()


def test_a_host_without_debians_keys_is_told_which_package_has_them(
    fake_apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "KEYRING", tmp_path / "nowhere.gpg")

    with pytest.raises(BuildError, match="debian-archive-keyring"):
        Apt(tmp_path / "apt", Request()).resolve()


def test_file_names_are_taken_from_apts_lines() -> None:
    text = "'http://m/a_1_all.deb' a_1_all.deb 10 SHA256:x\n'http://m/b%2b_2_amd64.deb' b%2b_2_amd64.deb 10 \n"

    assert packages.file_names(text) == ["a_1_all.deb", "b%2b_2_amd64.deb"]


def test_apt_finding_nothing_is_an_error() -> None:
    with pytest.raises(BuildError, match="no packages"):
        packages.file_names("Reading package lists...\n")


@pytest.mark.parametrize("shown", ["Package: x\n", "Depends: libc6, perl\n"])
def test_a_metapackage_without_a_kernel_is_an_error(shown: str) -> None:
    with pytest.raises(BuildError, match="depends on no kernel"):
        packages.kernel_dependency(shown, "linux-image-x")


def test_a_lock_survives_being_written_and_read() -> None:
    lock = Lock("bookworm", "linux", (Package("linux", "1", "linux_1_amd64.deb", "00"),))

    assert Lock.from_json(lock.to_json()) == lock


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"suite": 1, "kernel": 1, "packages": [1]}', "null"])
def test_a_damaged_lock_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        Lock.from_json(text)


def test_a_request_is_known_by_all_that_it_asks_for() -> None:
    digests = {Request().digest(), Request(mirror="http://m").digest(), Request(packages=("a",)).digest()}

    assert len(digests) == 3
    assert Request().digest() == Request().digest()
