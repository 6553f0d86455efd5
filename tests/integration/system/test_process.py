"""What an OCI spec says of a process holds in the guest: user, environment, privileges, limits, what it may see."""

from __future__ import annotations

import time

import pytest

from tests.harness import guest
from tests.harness.images import BUSYBOX
from tests.integration.system.vm import Vm

pytestmark = pytest.mark.integration


def test_the_kernel_is_the_guests_and_one_for_all_containers_of_the_pod(vm: Vm) -> None:
    first = guest.identity(vm.run(*guest.IDENTITY_COMMAND).check().text)
    second = guest.identity(vm.run(*guest.IDENTITY_COMMAND).check().text)

    assert first == second
    assert first[0] != guest.host_kernel()
    assert first[1] != guest.host_boot_id()


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands_own(vm: Vm, code: int) -> None:
    assert vm.run("sh", "-c", f"exit {code}").returncode == code


def test_an_execs_exit_code_is_its_own_too(vm: Vm) -> None:
    with vm.container() as container:
        assert [vm.exec(container, "sh", "-c", f"exit {code}").returncode for code in (0, 1, 7, 255)] == [0, 1, 7, 255]
        assert vm.exec(container, "sh", "-c", "kill -9 $$").returncode == 137
        assert vm.exec(container, "sh", "-c", "kill -15 $$").returncode == 143


def test_a_command_that_does_not_exist_or_cannot_be_run_is_named(vm: Vm) -> None:
    missing = vm.run("/bin/no-such-program")
    assert missing.returncode != 0
    assert "/bin/no-such-program" in missing.error_text
    refused = vm.run("/etc/passwd")
    assert refused.returncode != 0
    assert "/etc/passwd" in refused.error_text


def test_environment_and_working_directory(vm: Vm) -> None:
    options = ("--env", "COLOUR=deep blue", "--env", "EMPTY=", "--cwd", "/home/app")

    done = vm.run("sh", "-c", 'echo "$COLOUR|${EMPTY-unset}|$PWD"; cat /proc/self/environ', options=options)

    assert done.text.splitlines()[0] == "deep blue||/home/app"
    assert "COLOUR=deep blue\0" in done.text


def test_a_missing_working_directory_is_made(vm: Vm) -> None:
    assert vm.run("pwd", options=("--cwd", "/var/made/for/it")).check().text == "/var/made/for/it"


def test_user_group_and_additional_groups(vm: Vm) -> None:
    # The image's /etc/group has this user in group 2000, too: who is in which is the spec's to say (`Strict` of CRI).
    user = {"uid": 1000, "gid": 1001, "username": "app", "additionalGids": [2001, 2003]}

    done = vm.run_spec("sh", "-c", "grep :app$ /etc/group; id -u; id -g; id -G", process={"user": user})

    assert done.check().text.split("\n") == ["extra:x:2000:app", "1000", "1001", "1001 2001 2003"]


def test_an_exec_runs_as_the_user_it_names(vm: Vm) -> None:
    with vm.image_container() as container:
        done = vm.exec(container, "sh", "-c", "id -u; id -g; echo $PWD", options=("--user", "app", "--cwd", "/tmp"))

    assert done.check().text.split() == ["1000", "1000", "/tmp"]


def test_an_ordinary_user_has_no_capabilities_and_cannot_write_roots_files(vm: Vm) -> None:
    script = "grep CapEff /proc/self/status; echo x > /etc/passwd"

    done = vm.run_spec("sh", "-c", script, process={"user": {"uid": 1000, "gid": 1000}})

    assert done.text.split() == ["CapEff:", "0000000000000000"]
    assert done.returncode != 0
    assert "Permission denied" in done.error_text


def test_capabilities_are_those_of_the_spec(vm: Vm) -> None:
    sets = {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }

    done = vm.run_spec("grep", "^Cap", "/proc/self/status", process={"capabilities": sets, "user": {"uid": 5}})

    assert dict(line.split() for line in done.check().text.splitlines()) == {
        "CapInh:": "0000000000000020",
        "CapPrm:": "0000000000000020",
        "CapEff:": "0000000000000020",
        "CapBnd:": "0000000000000021",
        "CapAmb:": "0000000000000020",
    }


def test_a_dropped_capability_is_missed_and_an_added_one_works(vm: Vm) -> None:
    script = "chown 5 /tmp; hostname x"

    without = vm.run("sh", "-c", script, options=("--cap-drop", "CAP_CHOWN"))
    given = vm.run("sh", "-c", "mount -t tmpfs none /mnt", options=("--cap-add", "CAP_SYS_ADMIN", "--cwd", "/mnt"))

    assert "chown: /tmp: Operation not permitted" in without.error_text
    assert without.returncode != 0
    assert given.returncode == 0, given.error_text


def test_resource_limits_are_those_of_the_spec(vm: Vm) -> None:
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 321, "hard": 654},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
    ]

    done = vm.run_spec("cat", "/proc/self/limits", process={"rlimits": limits})

    rows = {line[:26].strip(): line[26:].split()[:2] for line in done.check().text.splitlines()}
    assert rows["Max open files"] == ["321", "654"]
    assert rows["Max core file size"] == ["0", "4096"]


@pytest.mark.parametrize("flag", [True, False])
def test_no_new_privileges_is_set_as_asked(vm: Vm, flag: bool) -> None:
    done = vm.run_spec("grep", "NoNewPrivs", "/proc/self/status", process={"noNewPrivileges": flag})

    assert done.check().text.split() == ["NoNewPrivs:", str(int(flag))]


def test_masked_paths_are_empty_and_readonly_paths_cannot_be_written(vm: Vm) -> None:
    paths = {"maskedPaths": ["/proc/kcore", "/sys/firmware"], "readonlyPaths": ["/proc/sys"]}
    script = "ls /sys/firmware | wc -l; wc -c < /proc/kcore; echo 1 > /proc/sys/kernel/panic"

    done = vm.run_spec("sh", "-c", script, linux=paths)

    assert done.text.split() == ["0", "0"]
    assert done.returncode != 0
    assert "Read-only file system" in done.error_text


def test_sysctls_of_the_containers_ipc_and_network_are_set(vm: Vm) -> None:
    settings = {"kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "1000"}

    done = vm.run_spec(
        "sh", "-c", "cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/ip_unprivileged_port_start",
        linux={"sysctl": settings},
    )  # fmt: skip

    assert done.check().text.split() == ["1", "1000"]


def test_the_spec_s_out_of_memory_score_is_the_process_own(vm: Vm) -> None:
    assert vm.run_spec("cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": 321}).check().text == "321"


def test_a_device_of_the_spec_is_there_and_others_are_refused(vm: Vm) -> None:
    devices = [{"path": "/dev/of-the-spec", "type": "c", "major": 1, "minor": 3, "fileMode": 0o606}]
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]
    script = (
        "stat -c '%a %t:%T' /dev/of-the-spec; echo x > /dev/of-the-spec && echo written;"
        "mknod /tmp/kmsg c 1 11; cat /tmp/kmsg; rm /tmp/kmsg"
    )

    done = vm.run_spec("sh", "-c", script, linux={"devices": devices, "resources": {"devices": rules}})

    assert done.text.splitlines() == ["606 1:3", "written"]
    assert "Operation not permitted" in done.error_text


def test_containers_of_a_pod_have_pid_namespaces_of_their_own(vm: Vm) -> None:
    with vm.container():
        done = vm.run_spec("sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l")

    assert done.check().text.split()[0] == "1"
    assert int(done.text.split()[1]) <= 3


def test_a_large_command_line_and_environment_arrive_whole(vm: Vm) -> None:
    argument, variable = "a" * 100_000, "b" * 50_000

    done = vm.run_spec("/bin/sh", "-c", "echo ${#1} ${#LARGE}", "x", argument, process={"env": [f"LARGE={variable}"]})

    assert done.check().text == "100000 50000"


def test_the_clock_is_the_host_s(vm: Vm) -> None:
    before = time.time()
    seen = int(vm.run("date", "+%s").check().text)

    assert before - 2 <= seen <= time.time() + 1


def test_the_image_s_own_command_runs_where_none_is_given(vm: Vm) -> None:
    assert vm.run(image=BUSYBOX, stdin=b"echo from $0\nexit 3\n").text == "from sh"
