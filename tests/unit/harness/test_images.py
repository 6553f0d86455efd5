"""Image archives: OCI image layout, stable bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile

import pytest

from tests.harness.images import Image, Layer, Link, archive, busybox_layer


@pytest.fixture
def image():
    base = busybox_layer(b"\x7fELF", ["bin/sh", "bin/busybox", "usr/bin/id"])
    return Image("localhost/test/one:7", [base, Layer({"etc/motd": b"hi"})], entrypoint=["/run"], command=["a"])


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {one.name: (one, tar.extractfile(one).read() if one.isfile() else b"") for one in tar}


def test_the_same_images_give_the_same_bytes(image):
    assert archive([image]) == archive([image])


def test_every_digest_names_the_blob_that_is_there(image):
    blobs = {name: data for name, (_, data) in members(archive([image])).items() if name.startswith("blobs/")}

    assert blobs
    assert all(name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}" for name, data in blobs.items())


def test_index_manifest_and_config_lead_to_the_layers(image):
    files = {name: data for name, (_, data) in members(archive([image])).items()}

    def blob(descriptor):
        data = files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
        assert descriptor["size"] == len(data)
        return data

    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    layers = [gzip.decompress(blob(layer)) for layer in manifest["layers"]]

    assert entry["annotations"]["io.containerd.image.name"] == "localhost/test/one:7"
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    assert config["config"]["Entrypoint"] == ["/run"]
    assert [layer == source.tar() for layer, source in zip(layers, image.layers, strict=True)] == [True, True]


def test_a_base_layer_has_the_program_links_to_it_and_a_sticky_tmp():
    files = members(busybox_layer(b"elf", ["bin/sh", "bin/busybox"]).tar())

    assert files["bin/busybox"][1] == b"elf"
    assert files["bin/sh"][0].linkname == "/bin/busybox"
    assert files["tmp"][0].mode == 0o1777
    assert files["tmp"][0].isdir()


def test_layers_that_images_share_are_stored_once(image):
    two = Image("localhost/test/two:1", image.layers, command=["b"])

    names = [name for name in members(archive([image, two])) if name.startswith("blobs/")]

    assert len(names) == 2 + 2 * 2


def test_links_and_directories_are_what_they_are_called():
    files = members(Layer({"d": None, "l": Link("d")}).tar())

    assert files["d"][0].isdir()
    assert files["l"][0].issym()
