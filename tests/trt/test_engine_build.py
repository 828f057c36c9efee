import json
import os

import pytest

from rope_deploy.artifact import hash_file, load_manifest
from rope_deploy.errors import ConfigError, EnvironmentMissing, UsageError, VendorError
from rope_deploy.trt import engine_build, load_engine_manifest, manifest_path
from rope_deploy.trt.engine_request import EngineRequest
from tests.runtimes.toy import write_toy
from tests.trt.graphs import BFLOAT16, PLAIN, UNSUPPORTED, engine_of, needs_rtx, write_onnx


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The folder of a two-layer decoder with a cache, in the style `tables`."""
    folder = tmp_path_factory.mktemp("toy")
    write_toy(folder, "tables")
    return folder


@pytest.fixture
def plain(tmp_path):
    """A graph of two operators, and the profiles it needs."""
    return write_onnx(tmp_path / "g.onnx", PLAIN), ("batch=1:1:2", "width=1:4:9")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@needs_rtx
def test_a_decoder_with_a_cache_becomes_one_engine_for_two_capabilities(toy, tmp_path):
    target = tmp_path / "new" / "toy.engine"
    record = engine_of(toy, target, flavor="rtx", capabilities=("8.0", "8.9"))
    assert (record.flavor, record.style, record.capabilities, record.verdict) == (
        "rtx",
        "tables",
        ("8.0", "8.9"),
        "passed",
    )
    content = target.read_bytes()
    assert record.bytes == len(content)
    assert b"sm80" in content
    assert b"sm89" in content
    assert names(target.parent) == ["toy.engine", "toy.engine.json"]


@needs_rtx
def test_an_engine_for_one_capability_does_not_hold_another(plain, tmp_path):
    engine_of(plain[0], tmp_path / "g.engine", flavor="rtx", capabilities=("8.9",), profiles=plain[1])
    content = (tmp_path / "g.engine").read_bytes()
    assert b"sm89" in content
    assert b"sm80" not in content


@needs_rtx
def test_the_manifest_beside_the_engine_says_what_was_built(toy, tmp_path):
    record = engine_of(toy, tmp_path / "toy.engine", flavor="rtx", profiles=["batch@decode=1:2:3"])
    manifest = load_engine_manifest(tmp_path / "toy.engine")
    source = json.loads((toy / "rope_deploy.json").read_text())
    assert {name: info.sha256 for name, info in manifest.files.items()} == {
        name: info["sha256"] for name, info in source["files"].items()
    }
    assert manifest.engine == hash_file(tmp_path / "toy.engine")
    assert [profile.name for profile in manifest.profiles] == ["prefill", "decode"]
    assert str(manifest.profiles[1].axes["batch"]) == "1:2:3"
    assert manifest.capabilities == ("8.0+",)
    assert manifest.dtype == "float32"
    assert not manifest.tf32
    assert set(manifest.versions) == {"rope-deploy", "tensorrt_rtx", "polygraphy"}
    assert manifest.to_record(tmp_path / "toy.engine") == record


@needs_rtx
def test_a_bare_file_is_built_with_the_profiles_given(plain, tmp_path):
    record = engine_of(plain[0], tmp_path / "g.engine", flavor="rtx", profiles=plain[1])
    assert record.style == ""
    assert load_engine_manifest(tmp_path / "g.engine").profiles[0].axes["width"].max == 9


def test_a_bare_file_without_profiles_is_refused_and_nothing_is_left(plain, tmp_path):
    with pytest.raises(ConfigError, match="axis width has no sizes; it belongs to x, y"):
        engine_of(plain[0], tmp_path / "g.engine", flavor="rtx")
    assert names(tmp_path) == ["g.onnx"]


@needs_rtx
def test_a_failed_build_leaves_nothing_and_loses_nothing(tmp_path):
    model = write_onnx(tmp_path / "g.onnx", UNSUPPORTED)
    (tmp_path / "g.engine").write_bytes(b"the engine of yesterday")
    with pytest.raises(VendorError, match="Bernoulli"):
        engine_of(model, tmp_path / "g.engine", flavor="rtx", profiles=["batch=1"], force=True)
    assert names(tmp_path) == ["g.engine", "g.onnx"]
    assert (tmp_path / "g.engine").read_bytes() == b"the engine of yesterday"


@needs_rtx
def test_a_full_disk_is_said_and_leaves_nothing(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(
        engine_build, "EngineRequest", lambda **fields: EngineRequest(**{**fields, "output": "/dev/full"})
    )
    with pytest.raises(EnvironmentMissing, match="No space left"):
        engine_of(plain[0], tmp_path / "g.engine", flavor="rtx", profiles=plain[1])
    assert names(tmp_path) == ["g.onnx"]


@needs_rtx
def test_an_interrupt_leaves_nothing(plain, tmp_path):
    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_of(plain[0], tmp_path / "g.engine", flavor="rtx", profiles=plain[1], progress=interrupt)
    assert names(tmp_path) == ["g.onnx"]


@needs_rtx
def test_force_replaces_and_its_absence_refuses(plain, tmp_path):
    (tmp_path / "g.engine").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"):
        engine_of(plain[0], tmp_path / "g.engine", flavor="rtx", profiles=plain[1])
    assert (tmp_path / "g.engine").read_bytes() == b"old"
    engine_of(plain[0], tmp_path / "g.engine", flavor="rtx", profiles=plain[1], force=True)
    assert len((tmp_path / "g.engine").read_bytes()) > 1000


@pytest.mark.parametrize(
    ("place", "kind", "says"),
    [
        ("/proc/g.engine", EnvironmentMissing, "Could not write"),
        ("{tmp}/g.onnx/g.engine", UsageError, r"cannot be written: .*g\.onnx is a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_build(plain, tmp_path, place, kind, says):
    with pytest.raises(kind, match=says):
        engine_of(plain[0], tmp_path / place.format(tmp=tmp_path), flavor="rtx", profiles=plain[1])


@pytest.mark.parametrize("name", ["g.onnx", "other.onnx"])
def test_an_engine_takes_no_graphs_place(plain, tmp_path, name):
    before = plain[0].read_bytes()
    with pytest.raises(UsageError, match="name of a graph"):
        engine_of(plain[0], plain[0].with_name(name), flavor="rtx", profiles=plain[1], force=True)
    assert plain[0].read_bytes() == before


def test_a_folder_is_no_place_for_an_engine(plain, tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        engine_of(plain[0], tmp_path, flavor="rtx", profiles=plain[1], force=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(plain, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(EnvironmentMissing, match="Permission denied"):
        engine_of(plain[0], tmp_path / "locked" / "g.engine", flavor="rtx", profiles=plain[1])


def test_options_rtx_cannot_honour_are_refused_together(plain, tmp_path):
    with pytest.raises(ConfigError) as caught:
        engine_of(
            plain[0],
            tmp_path / "g.engine",
            flavor="rtx",
            profiles=plain[1],
            capabilities=("8.0", "8.0", "89"),
            plugin=tmp_path / "lib.so",
            timing_cache=tmp_path / "t.cache",
        )
    text = str(caught.value)
    assert len(caught.value.faults) == 4
    assert all(word in text for word in ("'89'", "8.0 is given twice", "no plugin layer", "no timing cache"))


def test_turing_with_bfloat16_is_refused(tmp_path):
    model = write_onnx(tmp_path / "g.onnx", BFLOAT16)
    with pytest.raises(ConfigError, match=r"7\.5 \(Turing\) has no bfloat16"):
        engine_of(model, tmp_path / "g.engine", flavor="rtx", capabilities=("7.5",), profiles=["batch=1"])


def test_turing_with_a_float32_decoder_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match="no float32 matrix product"):
        engine_of(toy, tmp_path / "g.engine", flavor="rtx", capabilities=("7.5",))


@needs_rtx
def test_bfloat16_is_built_for_later_gpus(tmp_path):
    model = write_onnx(tmp_path / "g.onnx", BFLOAT16)
    engine_of(model, tmp_path / "g.engine", flavor="rtx", capabilities=("8.0",), profiles=["batch=1"])
    assert load_engine_manifest(tmp_path / "g.engine").dtype == "bfloat16+float32"


def test_a_plugin_that_is_not_there_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        engine_of(toy, tmp_path / "g.engine", flavor="tensorrt", plugin=tmp_path / "lib.so")


def test_an_engine_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(UsageError, match="beside it"):
        load_engine_manifest(tmp_path / "g.engine")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not a valid engine manifest"),
        ("{}", "not a valid engine manifest"),
        ('{"schema_version": 99}', "has schema version 99"),
        ("[1]", "not a valid engine manifest"),
    ],
)
def test_a_damaged_engine_manifest_is_refused(tmp_path, content, says):
    manifest_path(tmp_path / "g.engine").write_text(content)
    with pytest.raises(ConfigError, match=says):
        load_engine_manifest(tmp_path / "g.engine")


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_the_tensorrt_flavour_builds_for_the_gpu_here_and_keeps_its_timing_cache(toy, tmp_path):
    record = engine_of(toy, tmp_path / "toy.engine", flavor="tensorrt")
    assert record.flavor == "tensorrt"
    assert record.capabilities == (engine_build.gpus()[0].capability,)
    assert (tmp_path / "toy.engine.cache").stat().st_size > 0
    again = engine_of(toy, tmp_path / "toy.engine", flavor="tensorrt", force=True)
    assert again.seconds < record.seconds * 1.5


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_the_tensorrt_flavour_refuses_a_gpu_that_is_not_here(toy, tmp_path):
    with pytest.raises(UsageError, match="It builds for the GPU it runs on"):
        engine_of(toy, tmp_path / "toy.engine", flavor="tensorrt", capabilities=("1.0",))


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_the_tensorrt_flavour_names_an_unsupported_operator(tmp_path):
    model = write_onnx(tmp_path / "g.onnx", UNSUPPORTED)
    with pytest.raises(VendorError, match="culprit"):
        engine_of(model, tmp_path / "g.engine", flavor="tensorrt", profiles=["batch=1"])


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_a_library_that_is_no_plugin_is_refused(toy, tmp_path):
    (tmp_path / "lib.so").write_bytes(b"not a library")
    with pytest.raises(VendorError, match="plugin library"):
        engine_of(toy, tmp_path / "toy.engine", flavor="tensorrt", plugin=tmp_path / "lib.so")


@needs_rtx
@pytest.mark.parametrize("style", ["tables", "onnx"])
def test_an_engine_with_taps_names_every_site(tmp_path, style):
    write_toy(tmp_path / "toy", style)
    engine_of(tmp_path / "toy", tmp_path / "toy.engine", flavor="rtx", taps=True)
    taps = load_engine_manifest(tmp_path / "toy.engine").taps
    sites = load_manifest(tmp_path / "toy").sites
    assert set(taps) == {name for site in sites for name in (site.input, site.output)}
    content = (tmp_path / "toy.engine").read_bytes()
    assert all(name.encode() in content for name in taps), "an engine holds the names of what it returns"


@needs_rtx
def test_a_bare_file_has_no_taps(plain, tmp_path):
    with pytest.raises(UsageError, match="does not say where its rotations are"):
        engine_of(plain[0], tmp_path / "g.engine", flavor="rtx", profiles=plain[1], taps=True)
