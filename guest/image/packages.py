"""The Debian packages of the guest: which, in which versions, and how they get here.

apt runs in a directory of its own, with its own sources, lists and an empty dpkg status: nothing on the host is
installed or changed, the host's own suite does not matter, and root is not needed. What apt resolved once is kept as a
lock (name, version, SHA-256), so that later builds neither ask apt nor change by themselves.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from guest.image import tools
from guest.image.errors import BuildError

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHON = "python3.11"
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    "busybox-static",  # the initrd, modprobe for the kernel's requests, a shell for the debug console
    "crun",  # the OCI runtime
    "e2fsprogs",  # mke2fs and resize2fs for block storage
    "iproute2",  # ip and tc
    "iptables",  # GetIPTables and SetIPTables
    f"lib{PYTHON}-stdlib",
    "libatomic1",  # this and the next: what the policy engine is linked with
    "libstdc++6",
    f"{PYTHON}-minimal",
)

_UPDATE_SECONDS = 300
_DOWNLOAD_SECONDS = 900
_QUERY_SECONDS = 60


@dataclass(frozen=True)
class Package:
    """One package as resolved: its file in the archive directory and the SHA-256 of that file."""

    name: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Lock:
    """All packages of a guest. `kernel` names the one among them that carries the kernel."""

    suite: str
    kernel: str
    packages: tuple[Package, ...]

    def to_json(self) -> str:
        """Return the lock as text, for `from_json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Lock:
        """Read what `to_json` wrote. Raises ValueError if `text` is something else."""
        try:
            value = json.loads(text)
            packages = tuple(Package(**package) for package in value["packages"])
            return cls(value["suite"], value["kernel"], packages)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a package lock: {error}") from error


@dataclass(frozen=True)
class Request:
    """What is asked of apt: everything that decides which packages a guest gets."""

    suite: str = SUITE
    mirror: str = MIRROR
    security_mirror: str = SECURITY_MIRROR
    kernel: str = KERNEL
    packages: tuple[str, ...] = PACKAGES

    def digest(self) -> str:
        """Return a short name for this request."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def sources(self) -> str:
        """Return the sources.list of this request."""
        signed = f"deb [signed-by={KEYRING}]"
        return (
            f"{signed} {self.mirror} {self.suite} main\n"
            f"{signed} {self.mirror} {self.suite}-updates main\n"
            f"{signed} {self.security_mirror} {self.suite}-security main\n"
        )


class Apt:
    """apt with all its state below `root`."""

    def __init__(self, root: Path, request: Request) -> None:
        self.root = root
        self.archives = root / "archives"
        self._request = request

    def resolve(self) -> Lock:
        """Fetch the package lists and the newest version of every package. Raises BuildError."""
        self._prepare()
        self._run("apt-get", ["-qq", "update"], _UPDATE_SECONDS)
        wanted = list(self._request.packages)
        files = self._files("install", *wanted)
        self._get(["--yes", "--download-only", "install", *wanted], _DOWNLOAD_SECONDS)
        kernel = self._kernel_package()
        files += self._files("download", kernel)
        self._get(["download", kernel], _DOWNLOAD_SECONDS)
        packages = tuple(sorted((self._package(name) for name in files), key=lambda package: package.name))
        self._forget_others(packages)
        return Lock(self._request.suite, kernel, packages)

    def has(self, lock: Lock) -> bool:
        """Return whether every file of `lock` is here."""
        return all((self.archives / package.file).is_file() for package in lock.packages)

    def file(self, package: Package) -> Path:
        """Return the path of a package's file, after comparing its SHA-256. Raises BuildError if it differs."""
        path = self.archives / package.file
        if _sha256(path) != package.sha256:
            raise BuildError(f"{path} is damaged: build again with --refresh")
        return path

    def _prepare(self) -> None:
        if not KEYRING.exists():
            raise BuildError(f"{KEYRING} is missing: install it with `apt-get install debian-archive-keyring`")
        for directory in (self.archives / "partial", self.root / "lists" / "partial"):
            directory.mkdir(parents=True, exist_ok=True)
        (self.root / "status").write_text("")
        (self.root / "sources.list").write_text(self._request.sources())

    def _options(self) -> list[str]:
        root = self.root.resolve()
        settings = {
            "Dir::Etc::main": "-",
            "Dir::Etc::parts": "-",
            "Dir::Etc::sourcelist": f"{root}/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": root,
            "Dir::State::status": f"{root}/status",
            "Dir::Cache": root,
            "Dir::Cache::archives": f"{root}/archives",
            "APT::Architecture": "amd64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "1",
            **_proxies(),
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def _run(self, tool: str, arguments: Sequence[str], timeout: float, directory: Path | None = None) -> str:
        argv = [tool, *self._options(), *arguments]
        return tools.run(argv, timeout=timeout, cwd=directory or self.archives).decode(errors="replace")

    def _get(self, arguments: Sequence[str], timeout: float) -> str:
        return self._run("apt-get", ["-qq", *arguments], timeout)

    def _files(self, *arguments: str) -> list[str]:
        """Return what apt would fetch from scratch: it does not name what is in its archives, or where it stands."""
        with tempfile.TemporaryDirectory(dir=self.root) as empty:
            (Path(empty) / "partial").mkdir()
            options = ["-o", f"Dir::Cache::archives={empty}", "--print-uris"]
            return file_names(self._run("apt-get", ["-qq", *options, *arguments], _QUERY_SECONDS, Path(empty)))

    def _kernel_package(self) -> str:
        shown = self._run("apt-cache", ["show", "--no-all-versions", self._request.kernel], _QUERY_SECONDS)
        return kernel_dependency(shown, self._request.kernel)

    def _package(self, file: str) -> Package:
        name, version, _ = unquote(file).split("_", 2)
        return Package(name, version, file, _sha256(self.archives / file))

    def _forget_others(self, packages: Sequence[Package]) -> None:
        keep = {package.file for package in packages}
        for path in self.archives.glob("*.deb"):
            if path.name not in keep:
                path.unlink()


def file_names(uris: str) -> list[str]:
    """Return the file names in the output of `apt-get --print-uris`: lines of 'URI' name size hash."""
    names = []
    for line in uris.splitlines():
        fields = shlex.split(line)
        if len(fields) >= 2 and fields[1].endswith(".deb"):
            names.append(fields[1])
    if not names:
        raise BuildError("apt found no packages: is the mirror complete?")
    return names


def kernel_dependency(shown: str, package: str) -> str:
    """Return the kernel that a metapackage stands for, from the output of `apt-cache show`."""
    for line in shown.splitlines():
        key, _, value = line.partition(":")
        if key == "Depends":
            for dependency in value.split(","):
                name = dependency.split()[0]
                if name.startswith("linux-image-"):
                    return name
    raise BuildError(f"the package {package} depends on no kernel")


def _proxies() -> dict[str, str]:
    query = ["apt-config", "shell"]
    keys = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    for index, key in enumerate(keys):
        query += [f"P{index}", key]
    shown = tools.run(query, timeout=_QUERY_SECONDS).decode(errors="replace")
    values = dict(assignment.split("=", 1) for assignment in shlex.split(shown) if "=" in assignment)
    return {key: values[f"P{index}"] for index, key in enumerate(keys) if values.get(f"P{index}")}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}: build again with --refresh") from error
