"""What can be proved of running an engine without a GPU: what is refused, and which profile is chosen."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.artifact import hash_file
from rope_deploy.errors import EnvironmentMissing, PositionOutOfRange, UsageError, VendorError
from rope_deploy.runtimes import TrtRuntime, empty_past, open_ort, open_trt, trt_engine
from rope_deploy.trt import EngineManifest, Gpu, Profile, Range, manifest_path
from tests.runtimes.toy import ROWS, Twin, write_toy

PROFILES = tuple(
    Profile(name, {axis: Range(*map(int, size.split(":"))) for axis, size in axes.items()})
    for name, axes in {
        "prefill": {"batch": "1:1:2", "sequence": "1:8:16", "past": "0:0:8", "total": "1:8:24"},
        "decode": {"batch": "1:1:4", "sequence": "1:1:1", "past": "0:16:30", "total": "1:17:31"},
    }.items()
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("engine") / "toy", "tables")


def write_engine(folder, manifest, **changes):
    path = folder / "toy.engine"
    path.write_bytes(b"an engine")
    built = EngineManifest(
        source="model.onnx",
        files={},
        style=manifest.style,
        dtype="float32",
        flavor="rtx",
        capabilities=("8.0", "8.9"),
        profiles=PROFILES,
        inputs=manifest.inputs,
        engine=hash_file(path),
        seconds=1.0,
    )
    manifest_path(path).write_text(replace(built, **changes).to_json())
    return path


def feeds_for(manifest, batch, tokens, past):
    total = past + tokens
    cache = {
        name: np.zeros((batch, v.shape[1], past, v.shape[3]), v.dtype) for name, v in empty_past(manifest, 1).items()
    }
    return {
        "input_ids": np.zeros((batch, tokens), int),
        "attention_mask": np.ones((batch, total), int),
        "position_ids": np.arange(past, total)[None].repeat(batch, 0),
        **cache,
    }


class FakeRunner:
    """Polygraphy's runner: a chosen profile, and one output buffer that every answer is written into."""

    def __init__(self):
        self.profiles, self.buffers, self.active = [], {}, True

    def set_profile(self, index):
        self.profiles.append(index)

    def infer(self, feeds):
        for name, value in Twin().run(feeds).items():
            if self.buffers.get(name, value).shape != value.shape or name not in self.buffers:
                self.buffers[name] = value
            self.buffers[name][:] = value
        return dict(self.buffers)

    def deactivate(self):
        self.active = False


@pytest.fixture
def runner():
    return FakeRunner()


@pytest.fixture
def runtime(runner, manifest):
    with TrtRuntime(manifest, runner, PROFILES, manifest.inputs) as opened:
        yield opened
    assert not runner.active


def test_profile_is_chosen_by_shape_and_changed_only_when_needed(runtime, runner, manifest):
    for shape in ((1, 8, 0), (1, 1, 8), (1, 1, 9), (1, 1, 10), (2, 16, 0)):
        runtime.run(feeds_for(manifest, *shape))
    assert runner.profiles == [0, 1, 0]


def test_shape_outside_every_profile_is_refused_with_the_ranges(runtime, manifest):
    with pytest.raises(UsageError, match=r"No profile(.|\n)*sequence=1:8:16"):
        runtime.run(feeds_for(manifest, 1, 17, 0))


def test_answers_do_not_change_with_the_next_run(runtime, manifest):
    first = runtime.run(feeds_for(manifest, 1, 4, 0))["logits"]
    kept = first.copy()
    runtime.run(feeds_for(manifest, 1, 4, 0) | {"input_ids": np.full((1, 4), 7)})
    np.testing.assert_array_equal(first, kept)


def test_positions_beyond_the_table_never_reach_the_engine(runtime, runner, manifest):
    with pytest.raises(PositionOutOfRange):
        runtime.run(feeds_for(manifest, 1, 2, 0) | {"position_ids": np.array([[0, ROWS]])})
    assert runner.profiles == []


def test_failure_of_the_runner_is_a_vendor_error(runtime, runner, manifest):
    runner.infer = lambda feeds: 1 / 0
    with pytest.raises(VendorError, match="failed to run"):
        runtime.run(feeds_for(manifest, 1, 2, 0))


def test_engine_without_a_gpu_names_what_it_needs(tmp_path, manifest, monkeypatch):
    monkeypatch.setattr(trt_engine, "gpus", lambda: ())
    monkeypatch.setattr(trt_engine, "installed_version", lambda flavor: "1")
    with pytest.raises(EnvironmentMissing, match=r"needs an NVIDIA GPU(.|\n)*8\.0, 8\.9") as refused:
        open_trt(write_engine(tmp_path, manifest), manifest)
    assert refused.value.exit_code == 3


def test_flavour_that_is_not_installed_says_how_to_get_it(tmp_path, manifest, monkeypatch):
    monkeypatch.setattr(trt_engine, "installed_version", lambda flavor: None)
    with pytest.raises(EnvironmentMissing, match="pip install tensorrt"):
        open_trt(write_engine(tmp_path, manifest, flavor="tensorrt"), manifest)


@pytest.mark.parametrize(
    ("built", "here", "fits"),
    [
        ("8.9", "8.9", True),
        ("8.9", "9.0", False),
        ("8.0+", "9.0", True),
        ("8.0+", "7.5", False),
        ("8.0+", "12.0", True),
    ],
)
def test_engine_opens_only_on_a_gpu_it_was_built_for(tmp_path, manifest, monkeypatch, built, here, fits):
    opened = []
    monkeypatch.setattr(trt_engine, "gpus", lambda: (Gpu("a card", here),))
    monkeypatch.setattr(trt_engine, "installed_version", lambda flavor: "1")
    monkeypatch.setattr(trt_engine, "_activated", lambda *given: opened.append(given) or FakeRunner())
    path = write_engine(tmp_path, manifest, capabilities=(built,))
    if fits:
        open_trt(path, manifest)
        assert opened
    else:
        with pytest.raises(EnvironmentMissing, match=f"capability {built}(.|\n)*a card, capability {here}"):
            open_trt(path, manifest)


def test_missing_changed_and_foreign_engines_are_refused(tmp_path, manifest):
    with pytest.raises(UsageError, match="no engine"):
        open_trt(tmp_path / "none.engine", manifest)
    path = write_engine(tmp_path, manifest)
    with pytest.raises(UsageError, match="not built from the artifact"):
        open_trt(path, replace(manifest, style="onnx"))
    path.write_bytes(b"AN engine")
    with pytest.raises(UsageError, match="hash differs"):
        open_trt(path, manifest)
    manifest_path(path).unlink()
    with pytest.raises(UsageError, match=r"toy\.engine\.json"):
        open_trt(path, manifest)


def test_engine_manifest_is_json(tmp_path, manifest):
    assert json.loads(manifest_path(write_engine(tmp_path, manifest)).read_text())["flavor"] == "rtx"


@pytest.mark.gpu
def test_engine_on_this_machine_agrees_with_the_twin(tmp_path, manifest):
    """Built and run for real, with whichever flavour is here."""
    from rope_deploy.trt import gpus, installed_version
    from rope_deploy.trt.flavors import RTX
    from tests.trt.graphs import engine_of

    if not gpus() or installed_version(RTX) is None:
        pytest.skip("needs an NVIDIA GPU and tensorrt-rtx")
    toy = write_toy(tmp_path / "toy", "tables")
    engine_of(tmp_path / "toy", tmp_path / "toy.engine", flavor="rtx", capabilities=(gpus()[0].capability,))
    with open_trt(tmp_path / "toy.engine", toy) as runtime:
        feeds = feeds_for(toy, 1, 5, 0)
        np.testing.assert_allclose(runtime.run(feeds)["logits"], Twin().run(feeds)["logits"], atol=1e-3)


class TappedRunner(FakeRunner):
    """An engine built with taps also returns what lies at the sites: here q and k as they come and as they go."""

    def infer(self, feeds):
        outputs = super().infer(feeds)
        with open_ort(self.folder, taps=True) as session:
            inside = session._session.run(session._all, dict(feeds))
        return outputs | dict(zip(session._all, inside))


def test_an_engine_with_taps_shows_q_and_k_of_every_layer(manifest, tmp_path):
    write_toy(tmp_path / "toy", "tables")
    runner = TappedRunner()
    runner.folder = tmp_path / "toy"
    feeds = feeds_for(manifest, 1, 5, 0)
    with (
        TrtRuntime(manifest, runner, PROFILES, manifest.inputs, taps=True) as runtime,
        open_ort(runner.folder, taps=True) as session,
    ):
        got, want = runtime.run(feeds, taps=True), session.run(feeds, taps=True)
        assert set(runtime.run(feeds)) == {info.name for info in manifest.outputs}, "asked for nothing, shows nothing"
    names = {name for name in want if "rotated" in name}
    assert names and names == {name for name in got if "rotated" in name}
    for name in names:
        np.testing.assert_array_equal(got[name], want[name])


def test_an_engine_without_taps_says_how_to_build_one(runtime, manifest):
    with pytest.raises(UsageError, match="without taps") as caught:
        runtime.run(feeds_for(manifest, 1, 5, 0), taps=True)
    assert "--taps" in caught.value.todo
