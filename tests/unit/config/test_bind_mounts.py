"""`sandbox_bind_mounts`: which paths of the host a guest has, and that no pod chooses them."""

from __future__ import annotations

import pytest

from config import ConfigError, NotAllowedError, load
from config.annotations import apply
from config.bind_mounts import BindMount

ANNOTATION = "io.katacontainers.config.runtime.sandbox_bind_mounts"


def test_a_path_is_read_only_unless_it_says_otherwise(write):
    text = '[runtime]\nsandbox_bind_mounts = ["/opt/hooks", "/srv/a:ro", "/srv/b/:rw"]'
    mounts = load(write(text)).runtime.sandbox_bind_mounts
    assert mounts == (BindMount("/opt/hooks"), BindMount("/srv/a"), BindMount("/srv/b/", read_only=False))
    assert [mount.name for mount in mounts] == ["hooks", "a", "b"]
    assert [str(mount) for mount in mounts] == ["/opt/hooks", "/srv/a", "/srv/b/:rw"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('["hooks"]', "item 0 must be an absolute path"),
        ('["/a:rx"]', "item 0 must be an absolute path"),
        ('["/a:b"]', "item 0 must be an absolute path"),
        ('["/"]', '"/" is not'),
        ('["/a/../b"]', '"/a/../b" is not'),
        ('["/a/..:rw"]', '"/a/.." is not'),
        ('["/a/x", "/b/x:rw"]', '"x" is there twice'),
        ('"/a"', "must be a list"),
    ],
)
def test_what_has_no_place_of_its_own_in_the_guest_is_refused(write, value: str, problem: str):
    with pytest.raises(ConfigError) as caught:
        load(write(f"[runtime]\nsandbox_bind_mounts = {value}"))
    assert "[runtime] sandbox_bind_mounts" in str(caught.value)
    assert problem in str(caught.value)


def test_no_annotation_chooses_a_path_of_the_host(write):
    base = load(write(""))
    assert apply(base, {ANNOTATION: "[]"}).runtime == base.runtime
    with pytest.raises(NotAllowedError, match="for the configuration file to say"):
        apply(base, {ANNOTATION: '["/etc"]'})
