"""From the protocol's OCI spec to crun's config.json."""

from __future__ import annotations

import pytest

from guest.agent.errors import InvalidArgumentError, RpcError, UnimplementedError
from guest.agent.layout import Layout
from guest.agent.ociprocess import process_json
from guest.agent.ocispec import Surroundings, network_sysctls, spec_json
from protos.lean.gen.grpc import (
    Box,
    Hook,
    Hooks,
    Linux,
    LinuxCapabilities,
    LinuxDevice,
    LinuxIdMapping,
    LinuxNamespace,
    LinuxSeccomp,
    LinuxSeccompArg,
    LinuxSyscall,
    Mount,
    PosixRlimit,
    Process,
    Root,
    Spec,
    User,
)

ROOTFS = "/run/kata-containers/shared/containers/c1/rootfs"


def around(**changes) -> Surroundings:
    return Surroundings(Layout(), ipc="/ns/ipc", uts="/ns/uts", **changes)


def spec(**changes) -> Spec:
    fields = {"process": Process(args=["true"]), "root": Root(path=ROOTFS), "linux": Linux()}
    return Spec(**(fields | changes))


def convert(**changes):
    return spec_json(spec(**changes), "c1", around())


def test_the_smallest_spec_becomes_a_whole_config():
    config = convert()

    assert config["root"] == {"path": ROOTFS, "readonly": False}
    assert config["process"]["args"] == ["true"]
    assert config["process"]["cwd"] == "/"
    assert config["linux"]["cgroupsPath"] == "/kata/c1"


@pytest.mark.parametrize("changes", [{"process": None}, {"root": None}, {"linux": None}, {"process": Process()}])
def test_a_spec_without_what_is_needed_is_refused(changes):
    with pytest.raises(InvalidArgumentError):
        convert(**changes)


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/run/kata-agent/x", "/run/kata-containers", "/run/kata-containers/../x"]
)
def test_a_root_file_system_outside_of_katas_tree_is_refused(path):
    with pytest.raises(InvalidArgumentError):
        convert(root=Root(path=path))


class TestNamespaces:
    def test_ipc_and_uts_are_the_sandboxs_and_the_network_is_the_guests(self):
        asked = [LinuxNamespace(type=kind, path="/host") for kind in ("pid", "ipc", "uts", "mount", "network", "time")]

        namespaces = convert(linux=Linux(namespaces=asked))["linux"]["namespaces"]

        assert namespaces == [
            {"type": "mount"},
            {"type": "cgroup"},
            {"type": "ipc", "path": "/ns/ipc"},
            {"type": "uts", "path": "/ns/uts"},
            {"type": "pid"},
        ]

    def test_a_shared_pid_namespace_is_joined(self):
        config = spec_json(spec(), "c1", around(pid="/proc/7/ns/pid"))

        assert {"type": "pid", "path": "/proc/7/ns/pid"} in config["linux"]["namespaces"]

    def test_user_namespaces_are_refused(self):
        with pytest.raises(UnimplementedError):
            convert(linux=Linux(uid_mappings=[LinuxIdMapping(size=1)]))

    def test_the_sandboxs_hostname_wins_over_the_containers(self):
        assert "hostname" not in spec_json(spec(hostname="mine"), "c1", around(hostname="pod"))
        assert spec_json(spec(hostname="mine"), "c1", around())["hostname"] == "mine"


class TestMounts:
    def mounts(self, *mounts):
        return convert(mounts=list(mounts))["mounts"]

    def test_file_systems_of_the_guest_are_kept(self):
        proc = Mount(destination="/proc", type="proc", source="proc", options=["nosuid"])

        assert self.mounts(proc) == [{"destination": "/proc", "source": "proc", "options": ["nosuid"], "type": "proc"}]

    def test_a_bind_mount_from_katas_tree_is_kept_and_says_that_it_is_one(self):
        bind = Mount(
            destination="/data", type="bind", source="/run/kata-containers/shared/containers/v", options=["ro"]
        )

        assert self.mounts(bind)[0]["options"] == ["ro", "rbind"]

    def test_shared_memory_is_bound_from_the_sandbox(self):
        shm = Mount(destination="/dev/shm", type="bind", source="/run/kata-containers/sandbox/shm", options=["rbind"])

        assert self.mounts(shm)[0]["source"] == "/run/kata-containers/sandbox/shm"

    def test_a_device_of_the_guest_may_be_bound(self):
        assert self.mounts(Mount(destination="/dev/x", type="bind", source="/dev/x"))[0]["source"] == "/dev/x"

    @pytest.mark.parametrize("source", ["/", "/etc", "/usr/lib/kata", "/run/kata-agent/crun", "/proc/1/root", "", "x"])
    def test_nothing_of_the_agents_own_root_is_bound(self, source):
        with pytest.raises(InvalidArgumentError):
            self.mounts(Mount(destination="/x", type="bind", source=source))

    def test_a_bind_in_disguise_is_checked_too(self):
        with pytest.raises(InvalidArgumentError):
            self.mounts(Mount(destination="/x", type="tmpfs", source="/etc", options=["rbind"]))

    @pytest.mark.parametrize("kind", ["ext4", "virtiofs", "devtmpfs", "", "erofs"])
    def test_other_file_systems_are_refused(self, kind):
        with pytest.raises(InvalidArgumentError):
            self.mounts(Mount(destination="/x", type=kind, source="/dev/vda"))

    def test_the_layers_of_an_overlay_lie_in_katas_tree(self):
        with pytest.raises(InvalidArgumentError):
            self.mounts(Mount(destination="/x", type="overlay", options=["lowerdir=/run/kata-containers/a:/usr"]))

    def test_a_destination_that_climbs_is_refused(self):
        with pytest.raises(InvalidArgumentError):
            self.mounts(Mount(destination="/a/../../etc", type="tmpfs"))


class TestLinux:
    def test_network_sysctls_are_the_agents_and_the_others_cruns(self):
        linux = Linux(sysctl={"net.ipv4.ip_forward": "1", "net/core/x": "2", "kernel.shmmax": "3"})

        assert convert(linux=linux)["linux"]["sysctl"] == {"kernel.shmmax": "3"}
        assert network_sysctls(spec(linux=linux)) == {"net.ipv4.ip_forward": "1", "net/core/x": "2"}

    def test_devices_are_made_with_their_numbers(self):
        device = LinuxDevice(path="/dev/x", type="c", major=1, minor=3, file_mode=0o20666, uid=1, gid=2)

        assert convert(linux=Linux(devices=[device]))["linux"]["devices"] == [
            {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 1, "gid": 2, "fileMode": 0o666}
        ]

    def test_an_unknown_device_type_is_refused(self):
        with pytest.raises(InvalidArgumentError):
            convert(linux=Linux(devices=[LinuxDevice(path="/dev/x", type="z")]))

    def test_seccomp_is_kept_whole(self):
        arg = LinuxSeccompArg(index=1, value=2, value_two=3, op="SCMP_CMP_EQ")
        rule = LinuxSyscall(names=["mkdir"], action="SCMP_ACT_ERRNO", errnoret=13, args=[arg])
        profile = LinuxSeccomp(default_action="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86_64"], syscalls=[rule])

        assert convert(linux=Linux(seccomp=profile))["linux"]["seccomp"] == {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {
                    "names": ["mkdir"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 13,
                    "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_EQ"}],
                }
            ],
        }

    def test_an_errno_of_zero_is_not_the_same_as_none(self):
        rules = [LinuxSyscall(names=["a"], action="x", errnoret=0), LinuxSyscall(names=["b"], action="x")]
        syscalls = convert(linux=Linux(seccomp=LinuxSeccomp(default_action="y", syscalls=rules)))["linux"]["seccomp"][
            "syscalls"
        ]

        assert [rule.get("errnoRet") for rule in syscalls] == [0, None]

    def test_masked_and_read_only_paths_are_kept(self):
        linux = convert(linux=Linux(masked_paths=["/proc/kcore"], readonly_paths=["/proc/sys"]))["linux"]

        assert (linux["maskedPaths"], linux["readonlyPaths"]) == (["/proc/kcore"], ["/proc/sys"])

    def test_an_unknown_propagation_is_refused(self):
        with pytest.raises(InvalidArgumentError):
            convert(linux=Linux(rootfs_propagation="sideways"))


def test_only_the_hooks_of_the_container_s_namespaces_run_in_the_guest():
    hook = Hook(path="/bin/hook", args=["hook"], timeout=3)
    inside = {"create_container": [hook], "start_container": [hook]}
    hooks = Hooks(prestart=[hook], create_runtime=[hook], poststart=[hook], poststop=[hook], **inside)

    kept = [{"path": "/bin/hook", "args": ["hook"], "env": [], "timeout": 3}]
    assert convert(hooks=hooks)["hooks"] == {"createContainer": kept, "startContainer": kept}


def test_annotations_that_steer_crun_are_dropped():
    config = convert(annotations={"run.oci.handler": "krun", "mine": "kept"})

    assert config["annotations"] == {"mine": "kept"}


class TestProcess:
    def test_everything_the_process_asks_for_is_kept(self):
        process = Process(
            terminal=True,
            console_size=Box(height=30, width=99),
            user=User(uid=1, gid=2, additional_gids=[3, 4]),
            args=["a", "b"],
            env=["K=V"],
            cwd="/tmp",
            capabilities=LinuxCapabilities(bounding=["CAP_KILL"], ambient=["CAP_CHOWN"]),
            rlimits=[PosixRlimit(type="RLIMIT_NOFILE", hard=10, soft=5)],
            no_new_privileges=True,
            oom_score_adj=-5,
        )

        assert process_json(process) == {
            "terminal": True,
            "consoleSize": {"height": 30, "width": 99},
            "user": {"uid": 1, "gid": 2, "additionalGids": [3, 4]},
            "args": ["a", "b"],
            "env": ["K=V"],
            "cwd": "/tmp",
            "capabilities": {
                "bounding": ["CAP_KILL"],
                "effective": [],
                "inheritable": [],
                "permitted": [],
                "ambient": ["CAP_CHOWN"],
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 10, "soft": 5}],
            "noNewPrivileges": True,
            "oomScoreAdj": -5,
        }

    def test_an_exec_without_capabilities_gets_the_inits(self):
        inherited = {"capabilities": {"bounding": ["CAP_KILL"]}}

        assert process_json(Process(args=["a"]), inherited)["capabilities"] == {"bounding": ["CAP_KILL"]}

    def test_an_exec_that_names_none_gets_none(self):
        inherited = {"capabilities": {"bounding": ["CAP_KILL"]}}

        assert process_json(Process(args=["a"], capabilities=LinuxCapabilities()), inherited)["capabilities"] == {
            "bounding": [],
            "effective": [],
            "inheritable": [],
            "permitted": [],
            "ambient": [],
        }

    @pytest.mark.parametrize(
        "process",
        [
            Process(args=["a\0b"]),
            Process(args=["a"], env=["X=\0"]),
            Process(args=["a"], cwd="relative"),
            Process(args=["a"], oom_score_adj=1001),
            Process(args=["a"] * 70000),
        ],
    )
    def test_what_could_not_be_run_is_refused(self, process):
        with pytest.raises(RpcError):
            process_json(process)

    def test_labels_of_the_hosts_security_modules_are_dropped(self):
        document = process_json(Process(args=["a"], apparmor_profile="docker-default", selinux_label="x:y"))

        assert not {"apparmorProfile", "selinuxLabel"} & set(document)
