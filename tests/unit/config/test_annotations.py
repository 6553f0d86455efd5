"""`config.annotations`: what a pod may set, under which rules, and the words of every refusal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Config, ConfigError, NotAllowedError, load, search
from config.annotation_names import HYPERVISOR, KEYS, LONE, PATH_LISTS, PREFIX
from config.annotations import apply, chosen_file
from config.foreign import FOREIGN
from config.keys import keys_of
from config.loader import TYPED

RUNTIME = f"{PREFIX}config.runtime."
AGENT = f"{PREFIX}config.agent."


@pytest.fixture
def base(write) -> Config:
    return load(write("[hypervisor.qemu]\nenable_annotations = ['.*']\n"))


def refusal(config: Config, name: str, value: str, kind: type[ConfigError] = NotAllowedError) -> str:
    """The one line with which an annotation is refused."""
    with pytest.raises(kind) as caught:
        apply(config, {name: value})
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(f"annotation {name}: ")
    assert message.isprintable()
    return message


def test_annotations_of_others_change_nothing(base: Config):
    assert apply(base, {"io.kubernetes.cri.sandbox-id": "x", "io.katacontainersx": "y", "a": ""}) == base


def test_every_annotation_of_kata_s_stands_for_a_key_or_for_itself():
    for name, (section, key) in KEYS.items():
        assert name not in LONE
        assert key in keys_of(TYPED[section]) or key in FOREIGN[section], name
    assert set(PATH_LISTS) <= set(KEYS)


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("default_memory", "512", "default_memory", 512),
        ("default_vcpus", "2", "default_vcpus", 2.0),
        ("default_vcpus", "1.5", "default_vcpus", 1.5),
        ("default_max_vcpus", "4", "default_maxvcpus", 4),
        ("machine_type", "pc-q35-7.2", "machine_type", "pc-q35-7.2"),
        ("cpu_features", "pmu=off,+vmx", "cpu_features", "pmu=off,+vmx"),
        ("shared_fs", "none", "shared_fs", "none"),
        ("kernel", "/srv/kernel", "kernel", Path("/srv/kernel")),
        ("guest_hook_path", "/usr/share/hooks", "guest_hook_path", "/usr/share/hooks"),
        ("machine_type", "", "machine_type", "q35"),
        ("kernel", "", "kernel", Path("/usr/share/kata-shim/vmlinux")),
    ],
)
def test_values_are_typed_as_in_the_file(base: Config, name: str, text: str, key: str, value: object):
    changed = apply(base, {HYPERVISOR + name: text})
    assert getattr(changed.hypervisor, key) == value
    assert changed.runtime == base.runtime


def test_those_of_the_runtime_and_the_agent_need_no_leave(write):
    changed = apply(
        load(write("")),
        {
            f"{RUNTIME}disable_guest_seccomp": "false",
            f"{RUNTIME}create_container_timeout": "7",
            f"{AGENT}kernel_modules": "e1000e EEE=1; i915",
        },
    )
    assert changed.runtime.disable_guest_seccomp is False
    assert changed.runtime.create_container_timeout == 7
    assert changed.agent.kernel_modules == ("e1000e EEE=1", "i915")


def test_kernel_parameters_and_virtiofsd_s_arguments_are_added(base: Config):
    changed = apply(
        base, {f"{HYPERVISOR}kernel_params": "a=1  b", f"{HYPERVISOR}virtio_fs_extra_args": '["-o", "no_xattr"]'}
    )
    assert changed.hypervisor.kernel_params == f"{base.hypervisor.kernel_params} a=1  b"
    assert changed.hypervisor.virtio_fs_extra_args == (*base.hypervisor.virtio_fs_extra_args, "-o", "no_xattr")


def test_a_guest_of_the_pod_s_is_not_mixed_with_the_configured_one(base: Config):
    changed = apply(base, {f"{HYPERVISOR}image": "/srv/other.img"})
    assert (changed.hypervisor.image, changed.hypervisor.initrd) == (Path("/srv/other.img"), None)
    assert changed.hypervisor.rootfs_type == "ext4"


@pytest.mark.parametrize(("word", "value"), [("1", True), ("T", True), ("False", False), ("f", False)])
def test_flags_are_those_of_go(base: Config, word: str, value: bool):
    assert apply(base, {f"{RUNTIME}disable_guest_seccomp": word}).runtime.disable_guest_seccomp is value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (f"{HYPERVISOR}default_memory", "12 ", "whole number"),
        (f"{HYPERVISOR}default_memory", "1_000", "whole number"),
        (f"{HYPERVISOR}default_memory", "64", "from 128"),
        (f"{HYPERVISOR}default_memory", "\u0661\u0662\u0663", "whole number"),
        (f"{HYPERVISOR}default_memory", "", "whole number"),
        (f"{HYPERVISOR}default_vcpus", "nan", "a number"),
        (f"{HYPERVISOR}default_vcpus", "1e3", "a number"),
        (f"{HYPERVISOR}kernel", "/a/../b", "without '..'"),
        (f"{HYPERVISOR}kernel_params", "a\nb", "one line"),
        (f"{HYPERVISOR}kernel_params", "a" * 3000, "at most 2048"),
        (f"{HYPERVISOR}virtio_fs_extra_args", "-o x", "JSON"),
        (f"{HYPERVISOR}virtio_fs_extra_args", "[" * 100_000, "JSON"),
        (f"{HYPERVISOR}virtio_fs_extra_args", '["a", 1]', "item 3"),
        (f"{RUNTIME}disable_guest_seccomp", "yes", "true or false"),
        (f"{AGENT}kernel_modules", "../evil", "item 0"),
        (f"{HYPERVISOR}default_memroy", "512", "no such annotation; did you mean"),
        (f"{HYPERVISOR}accelerator", "tcg", "no such annotation"),
        (f"{HYPERVISOR}enable_annotations", "['.*']", "no such annotation"),
        (f"{PREFIX}nonsense", "1", "no such annotation"),
    ],
)
def test_what_makes_no_sense_is_an_error_with_the_annotation_s_name(base: Config, name: str, text: str, problem: str):
    assert problem in refusal(base, name, text, ConfigError)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"{HYPERVISOR}rootless", "true"),
        (f"{HYPERVISOR}firmware", "/srv/fw"),
        (f"{HYPERVISOR}kernel_hash", "ab" * 64),
        (f"{HYPERVISOR}jailer_path", "/bin/sh"),
        (f"{RUNTIME}disable_new_netns", "1"),
        (f"{AGENT}policy", "cGFja2FnZQ=="),
    ],
)
def test_what_this_runtime_can_t_keep_is_refused(base: Config, name: str, text: str):
    assert "is not supported: " in refusal(base, name, text)


@pytest.mark.parametrize("guest", ["", "image = '/g/image'", "initrd = '/g/initrd'"])
@pytest.mark.parametrize("name", ["image", "initrd"])
def test_an_empty_guest_is_the_configured_one(write, guest: str, name: str):
    base = load(write(f"[hypervisor.qemu]\nenable_annotations = ['.*']\n{guest}\n"))

    assert apply(base, {f"{HYPERVISOR}{name}": ""}).hypervisor == base.hypervisor


def test_kata_s_defaults_are_always_granted_and_tuning_is_noted(base: Config):
    changed = apply(
        base,
        {
            f"{HYPERVISOR}rootless": "false",
            f"{HYPERVISOR}firmware": "",
            f"{RUNTIME}vfio_mode": "guest-kernel",
            f"{PREFIX}enable_vcpus_pinning": "true",
            f"{PREFIX}container.resource.swappiness": "60",
            f"{PREFIX}pkg.oci.bundle_path": "/x",
        },
    )
    assert changed.hypervisor == base.hypervisor
    assert [note.split(":")[0] for note in changed.ignored] == [
        f"annotation {PREFIX}container.resource.swappiness is ignored",
        f"annotation {PREFIX}enable_vcpus_pinning is ignored",
    ]


def test_sizes_must_fit_together(base: Config):
    with pytest.raises(ConfigError, match="default_maxvcpus 1 is below default_vcpus 2"):
        apply(base, {f"{HYPERVISOR}default_vcpus": "2", f"{HYPERVISOR}default_max_vcpus": "1"})


@pytest.mark.parametrize("patterns", [[], ["memory"], ["default"], ["default_mem"], ["efault_memory"], ["a|b"], [""]])
def test_a_pattern_must_match_the_whole_name(write, patterns: list[str]):
    config = load(write(f"[hypervisor.qemu]\nenable_annotations = {patterns}\n"))
    message = refusal(config, f"{HYPERVISOR}default_memory", "512")
    assert 'add "default_memory" to enable_annotations' in message
    assert str(config.source) in message


@given(st.lists(st.from_regex(r"[a-z_.*|]{0,12}", fullmatch=True).filter(lambda text: _compiles(text)), max_size=4))
def test_exactly_what_a_pattern_matches_as_a_whole_is_enabled(patterns: list[str]):
    vm = TYPED["hypervisor.qemu"](enable_annotations=tuple(patterns))
    config = Config(source=Path("/c.toml"), hypervisor=vm)
    for name in ("default_memory", "default_vcpus", "msize_9p"):
        enabled = any(re.match(rf"(?:{pattern})\Z", name) for pattern in patterns)
        try:
            apply(config, {HYPERVISOR + name: "8192"[: 1 if name == "default_vcpus" else 4]})
            assert enabled
        except NotAllowedError:
            assert not enabled


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def test_too_many_are_a_mistake(base: Config):
    with pytest.raises(ConfigError, match="at most 256"):
        apply(base, {f"{PREFIX}{number}": "" for number in range(257)})


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_a_pod_says_is_taken_or_refused_in_one_line(name: str, text: str):
    config = Config(source=Path("/c.toml"), hypervisor=TYPED["hypervisor.qemu"](enable_annotations=(".*",)))
    for key in (PREFIX + name, f"{HYPERVISOR}kernel_params", f"{HYPERVISOR}path", f"{AGENT}kernel_modules"):
        said = _answer(config, {key: text})
        assert said.isprintable()
        assert len(said) < 600


def _answer(config: Config, annotations: dict[str, str]) -> str:
    """The error, or nothing."""
    try:
        apply(config, annotations)
    except ConfigError as error:
        return str(error)
    return ""


# Paths


def test_a_path_must_be_in_its_list(write):
    config = load(write("[hypervisor.qemu]\nenable_annotations = ['path']\nvalid_hypervisor_paths = ['/opt/qemu-*']\n"))
    assert "valid_hypervisor_paths" in refusal(config, f"{HYPERVISOR}path", "/bin/sh")


def test_what_a_link_leads_to_must_be_in_the_list_too_and_is_what_counts(write, tmp_path: Path):
    (tmp_path / "qemu-8").touch()
    (tmp_path / "qemu-link").symlink_to("qemu-8")
    (tmp_path / "qemu-evil").symlink_to("/bin/sh")
    config = load(
        write(f"[hypervisor.qemu]\nenable_annotations = ['path']\nvalid_hypervisor_paths = ['{tmp_path}/qemu-*']\n")
    )
    changed = apply(config, {f"{HYPERVISOR}path": f"{tmp_path}/qemu-link"})
    assert changed.hypervisor.path == tmp_path / "qemu-8"
    assert "is not allowed" in refusal(config, f"{HYPERVISOR}path", f"{tmp_path}/qemu-evil")


# The file that a pod chooses


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kata"
    folder.mkdir()
    for name in ("configuration.toml", "configuration-clh.toml", "other.toml"):
        (folder / name).touch()
    (folder / "configuration-out.toml").symlink_to("/etc/passwd")
    return folder


def test_without_the_annotation_the_configured_file_stays(folder: Path):
    assert chosen_file({}, None) is None
    assert chosen_file({"io.katacontainers.config_path": ""}, folder / "x") == folder / "x"


def test_a_file_beside_the_configured_one_may_be_chosen(folder: Path):
    chosen = {"io.katacontainers.config_path": str(folder / "configuration-clh.toml")}
    assert chosen_file(chosen, folder / "configuration.toml") == folder / "configuration-clh.toml"


@pytest.mark.parametrize("name", ["other.toml", "sub/configuration.toml", "configuration-out.toml", "configuration"])
def test_another_file_is_refused(folder: Path, name: str):
    with pytest.raises(NotAllowedError, match=r"annotation io\.katacontainers\.config_path: .* is not allowed"):
        chosen_file({"io.katacontainers.config_path": str(folder / name)}, folder / "configuration.toml")


@pytest.mark.parametrize("text", ["configuration.toml", "/a/../configuration.toml", "/a\0"])
def test_what_is_no_path_is_an_error(folder: Path, text: str):
    with pytest.raises(ConfigError, match=r"annotation io\.katacontainers\.config_path: must be"):
        chosen_file({"io.katacontainers.config_path": text}, folder / "configuration.toml")


def test_the_directories_of_kata_s_search_order_are_allowed(folder: Path):
    named = search.SEARCH_ORDER[0].with_name("configuration-x.toml")
    assert chosen_file({"io.katacontainers.config_path": str(named)}, folder / "configuration.toml") == named
