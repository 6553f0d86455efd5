"""`config.load`: values, defaults, drop-ins and the words of every error."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import config
from config import ConfigError, HypervisorConfig, load


def fault(path: Path) -> str:
    """The one line with which loading `path` fails."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_file_gives_the_defaults(write):
    loaded = load(write(""))

    assert loaded.runtime == config.RuntimeConfig()
    assert loaded.agent == config.AgentConfig()
    assert loaded.factory == config.FactoryConfig()
    assert (
        dataclasses.replace(loaded.hypervisor, virtio_fs_daemon=HypervisorConfig().virtio_fs_daemon)
        == HypervisorConfig()
    )
    assert loaded.ignored == ()


def test_katas_defaults_hold_for_sizes_and_timeouts(write):
    loaded = load(write(""))

    assert loaded.hypervisor.default_memory == 2048
    assert loaded.hypervisor.default_vcpus == 1
    assert loaded.hypervisor.machine_type == "q35"
    assert loaded.hypervisor.virtio_fs_queue_size == 1024
    assert loaded.agent.dial_timeout == 45
    assert loaded.runtime.create_container_timeout == 60
    assert loaded.runtime.internetworking_model == "tcfilter"
    assert loaded.runtime.disable_guest_seccomp is True


def test_values_of_every_section_are_typed(write):
    path = write("""
        [hypervisor.qemu]
        path = "/opt/qemu"
        default_vcpus = 1.5
        default_memory = 512
        accelerator = "tcg"
        agent_channel = "virtio-serial"
        virtio_fs_extra_args = ["-o", "no_xattr"]
        [agent.kata]
        dial_timeout = 90
        [runtime]
        disable_guest_seccomp = false
    """)

    loaded = load(path)

    assert loaded.source == path
    assert loaded.hypervisor.path == Path("/opt/qemu")
    assert loaded.hypervisor.default_vcpus == 1.5
    assert loaded.hypervisor.default_memory == 512
    assert loaded.hypervisor.accelerator == "tcg"
    assert loaded.hypervisor.agent_channel == "virtio-serial"
    assert loaded.hypervisor.virtio_fs_extra_args == ("-o", "no_xattr")
    assert loaded.agent.dial_timeout == 90
    assert loaded.runtime.disable_guest_seccomp is False


def test_a_configuration_can_not_be_changed(write):
    loaded = load(write(""))

    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.hypervisor.default_memory = 1  # type: ignore[misc]


def test_drop_ins_override_single_keys_in_lexical_order(write):
    path = write("[hypervisor.qemu]\ndefault_memory = 512\ndefault_vcpus = 2\nvirtio_fs_extra_args = ['-d']\n")
    write("[hypervisor.qemu]\ndefault_memory = 1024\n", "config.d/20-more.toml")
    write("[hypervisor.qemu]\ndefault_memory = 768\nvirtio_fs_extra_args = ['-f']\n", "config.d/10-less.toml")
    write("not toml at all", "config.d/30-ignored.toml.bak")

    loaded = load(path)

    assert loaded.hypervisor.default_memory == 1024
    assert loaded.hypervisor.default_vcpus == 2
    assert loaded.hypervisor.virtio_fs_extra_args == ("-f",), "arrays are replaced, not appended"
    assert [each.name for each in loaded.drop_ins] == ["10-less.toml", "20-more.toml"]


def test_drop_ins_lie_next_to_the_file_a_symlink_points_to(write, tmp_path):
    real = write("", "real/configuration-qemu.toml")
    write("[agent.kata]\ndial_timeout = 5\n", "real/config.d/a.toml")
    write("[agent.kata]\ndial_timeout = 6\n", "config.d/a.toml")
    link = tmp_path / "configuration.toml"
    link.symlink_to(real)

    loaded = load(link)

    assert loaded.source == real
    assert loaded.agent.dial_timeout == 5


def test_a_fault_in_a_drop_in_names_the_drop_in(write):
    path = write("[hypervisor.qemu]\ndefault_memory = 512\n")
    drop_in = write("\n[hypervisor.qemu]\ndefault_memory = 'big'\n", "config.d/a.toml")

    assert fault(path).startswith(f"{drop_in}:3: [hypervisor.qemu] default_memory must be")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "[hypervisor.qemu]\n\ndefault_memory = '2 GB'",
            3,
            '[hypervisor.qemu] default_memory must be a whole number from 128 to 16777216 MiB, is the string "2 GB"',
        ),
        ("[hypervisor.qemu]\ndefault_memory = 127", 2, "from 128 to 16777216 MiB, is 127"),
        ("[hypervisor.qemu]\ndefault_memory = true", 2, "is true"),
        ("[hypervisor.qemu]\ndefault_vcpus = nan", 2, "must be a number of at most 4096, is nan"),
        ("[hypervisor.qemu]\ndefault_vcpus = -inf", 2, "is -inf"),
        ("[hypervisor.qemu]\nvirtio_fs_queue_size = 1000", 2, "must be a power of two from 1 to 1024, is 1000"),
        ("[hypervisor.qemu]\nkernel = 'vmlinux'", 2, "kernel must be an absolute path without '..'"),
        ("[hypervisor.qemu]\nkernel = '/boot/../vmlinux'", 2, "without '..'"),
        ("[hypervisor.qemu]\nkernel = ''", 2, "kernel must be an absolute path"),
        ("[hypervisor.qemu.kernel]\nx = 1", 1, "kernel must be an absolute path without '..', is a table"),
        ("[hypervisor.qemu]\naccelerator = 'xen'", 2, 'must be "auto" or "kvm" or "tcg", is the string "xen"'),
        ("[hypervisor.qemu]\nagent_channel = 3", 2, 'must be "auto" or "vsock" or "virtio-serial", is 3'),
        ("[hypervisor.qemu]\nmachine_type = 'q35,accel=xen'", 2, 'must be "q35" or a version of it'),
        ('[hypervisor.qemu]\nkernel_params = "a\\u0007"', 2, "must be kernel parameters on one line"),
        ('[hypervisor.qemu]\nkernel_params = "a\\nb"', 2, "must be kernel parameters on one line"),
        ("[hypervisor.qemu]\nseccompsandbox = 'on,spawn=maybe'", 2, "must be QEMU's -sandbox options"),
        ("[hypervisor.qemu]\ncpu_features = 'pmu=off -monitor stdio'", 2, "must be CPU features"),
        (
            "[hypervisor.qemu]\nvirtio_fs_extra_args = ['-d', 5]",
            2,
            "virtio_fs_extra_args item 1 must be an argument, is 5",
        ),
        ("[hypervisor.qemu]\nenable_annotations = ['(']", 2, "enable_annotations item 0 must be a regular expression"),
        (
            "[hypervisor.qemu]\nshared_fs = 'virtio-fs-nydus'",
            2,
            '"virtio-fs-nydus" is not implemented by this runtime; must be "virtio-fs" or "virtio-9p" or "none"',
        ),
        ("[hypervisor.qemu]\nrootfs_type = 'EXT4'", 2, 'must be "ext4" or "xfs" or "erofs"'),
        ("[runtime]\ndisable_guest_seccomp = 'no'", 2, 'must be true or false, is the string "no"'),
        ("[agent.kata]\ndial_timeout = 0", 2, "must be a whole number from 1 to 3600 s, is 0"),
        ("[factory]\nvm_cache_number = 1.0", 2, "must be a whole number from 0 to 1024 VMs, is 1.0"),
        ("[factory]\ntemplate_path = 'vm'", 2, "[factory] template_path must be an absolute path"),
    ],
)
def test_a_bad_value_is_named_with_file_line_key_and_what_is_allowed(write, text, line, words):
    path = write(text)

    message = fault(path)

    assert words in message
    assert message.startswith(f"{path}:{line}: [")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[hypervisor.qemu]\ndefault_memmory = 1", 'unknown key "default_memmory"; did you mean "default_memory"?'),
        ("[hypervisor.qemu]\nkernel-params = ''", 'did you mean "kernel_params"?'),
        ("[hypervisor.qemu]\nconfidental_guest = true", 'did you mean "confidential_guest"?'),
        ("[hypervisor.qemu]\ninternetworking_model = 'none'", '"internetworking_model"; it belongs in [runtime]'),
        ("[hypervisor.qemu]\nzzz = 1", '[hypervisor.qemu] unknown key "zzz"'),
        ("[runtme]\nx = 1", "unknown section [runtme]; did you mean [runtime]?"),
        ("[hypervisor.clh]\npath = '/clh'", "[hypervisor.clh]: qemu is the only hypervisor"),
        ("[hypervisor.clh]", "[hypervisor.clh]: qemu is the only hypervisor"),
        ("[hypervisor]\ndefault_memory = 1", "qemu is the only hypervisor"),
        ("[agent.other]", "[agent.other]: kata is the only agent"),
        ("[hypervisor.qemu.factory]\nenable_template = true", "[hypervisor.qemu.factory]; did you mean [factory]?"),
        ("[netmon]\npath = '/x'", "unknown section [netmon]"),
        ("enable_debug = true", 'key "enable_debug" stands outside of any section'),
        ("runtime = 3", "[runtime] must be a table"),
        ("[[hypervisor.qemu]]\npath = '/x'", "[hypervisor.qemu] must be a table"),
        ("[hypervisor.qemu]\nseccomp_sandbox = 'on'", 'in runtime-rs, here it is "seccompsandbox"'),
    ],
)
def test_what_is_unknown_is_an_error_with_a_suggestion(write, text, words):
    message = fault(write(text))

    assert words in message


def test_a_key_that_the_line_scan_can_not_place_is_named_without_a_line(write):
    path = write('"run\\u0074ime" = 3\n')

    assert fault(path) == f"{path}: [runtime] must be a table"


@pytest.mark.parametrize(
    ("key", "value"),
    [("rootless", "true"), ("confidential_guest", "true")],
)
def test_what_would_break_a_promise_is_refused_with_its_reason(write, key, value):
    message = fault(write(f"[hypervisor.qemu]\n{key} = {value}\n"))

    assert f":2: [hypervisor.qemu] {key} is not supported: " in message


def test_what_only_tunes_is_listed_and_does_not_fail(write):
    path = write("[hypervisor.qemu]\nenable_iothreads = true\n")

    loaded = load(path)

    assert [note.split(": ")[:2] for note in loaded.ignored] == [
        [f"{path}:2", "[hypervisor.qemu] enable_iothreads is ignored"],
    ]


def test_a_secret_in_an_ignored_key_is_not_repeated(write):
    loaded = load(write("[runtime]\njaeger_password = 'hunter2'\n"))

    assert len(loaded.ignored) == 1
    assert "hunter2" not in loaded.ignored[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "default_maxvcpus = 2\ndefault_vcpus = 2.5",
            ":2: [hypervisor.qemu] default_maxvcpus 2 is below default_vcpus 2.5",
        ),
        ("default_memory = 4096\ndefault_maxmemory = 1024", ":3: [hypervisor.qemu] default_maxmemory 1024 is below"),
    ],
)
def test_a_maximum_below_the_start_is_an_error(write, text, words):
    assert words in fault(write(f"[hypervisor.qemu]\n{text}\n"))


def test_a_long_value_is_cut_in_the_message(write):
    message = fault(write(f"[hypervisor.qemu]\naccelerator = '{'x' * 4000}'"))

    assert len(message) < 400


def test_where_a_key_was_set_is_remembered(write):
    path = write("[hypervisor.qemu]\n\nkernel = '/boot/k'\n")

    assert str(load(path).origins["hypervisor.qemu", "kernel"]) == f"{path}:3"


def test_importing_the_package_imports_no_module_of_it():
    import subprocess
    import sys

    probe = "import sys, config; print([m for m in sys.modules if m.startswith('config.') or m == 'tomllib'])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout.strip() == "[]"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = config.nonsense  # type: ignore[attr-defined]


def test_options_that_hold_sections_are_a_configuration():
    loaded = config.loads("TypeUrl = 'x'\n[hypervisor.qemu]\ndefault_memory = 512\n")
    assert loaded is not None
    assert loaded.hypervisor.default_memory == 512


@pytest.mark.parametrize("text", ["", "SystemdCgroup = true\nBinaryName = 'x'\n"])
def test_options_without_a_section_are_none(text: str):
    assert config.loads(text) is None


@pytest.mark.parametrize("text", ["[hypervisor.qemu]\ndefault_memroy = 1", "[nonsense]\na = 1", "= 1", "[" * 2**21])
def test_faults_in_options_are_one_line_that_says_where(text: str):
    with pytest.raises(ConfigError, match="options of the runtime in containerd's configuration"):
        config.loads(text)
