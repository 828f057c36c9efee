from dataclasses import replace

import numpy as np
import onnx
import pytest

from rope_deploy.artifact import MODEL_NAME
from rope_deploy.errors import ConfigError, EnvironmentMissing, PositionOutOfRange, UsageError, VendorError
from rope_deploy.runtimes import as_past, empty_past, in_cache_layout, open_ort
from tests.runtimes.toy import DATA_NAME, KV, ROWS, VOCAB, Faults, H, N, Twin, write_toy

STYLES = ("onnx", "tables", "contrib")


def feeds_for(manifest, mask, positions=None, past=None, tokens=None, seed=0):
    mask = np.array(mask)
    tokens = tokens or mask.shape[1]
    if positions is None:
        positions = np.clip(mask.cumsum(1) - 1, 0, None)[:, -tokens:]
    ids = np.random.default_rng(seed).integers(0, VOCAB, (len(mask), tokens))
    past = empty_past(manifest, len(mask)) if past is None else past
    return {"input_ids": ids, "attention_mask": mask, "position_ids": np.array(positions), **past}


@pytest.fixture(scope="module", params=STYLES)
def runtime(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "toy"
    write_toy(folder, request.param)
    with open_ort(folder, threads=1, taps=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fused") / "toy"
    write_toy(folder, "contrib")
    with open_ort(folder, threads=1, taps=True) as opened:
        yield opened


def test_prompt_and_taps_equal_the_twin(runtime):
    feeds = feeds_for(runtime.manifest, np.ones((2, 5), int))
    got, want = runtime.run(feeds, taps=True), Twin().run(feeds, taps=True)
    for name, value in want.items():
        if name.endswith(".q") and runtime.manifest.fused_attention:
            continue
        np.testing.assert_allclose(got[name], value, atol=1e-4, err_msg=name)
    assert got["unrotated.1.q"].shape == (2, N, 5, H)
    assert got["unrotated.1.k"].shape == (2, KV, 5, H)


def test_taps_differ_where_a_layer_turns_with_another_theta(tmp_path):
    write_toy(tmp_path / "toy", "onnx", Faults(theta={1: 500.0}))
    with open_ort(tmp_path / "toy", taps=True) as runtime:
        feeds = feeds_for(runtime.manifest, np.ones((1, 5), int))
        got, want = runtime.run(feeds, taps=True), Twin().run(feeds, taps=True)
    assert np.abs(got["rotated.0.q"] - want["rotated.0.q"]).max() < 1e-5
    assert np.abs(got["rotated.1.q"] - want["rotated.1.q"]).max() > 1e-2


def test_site_that_is_not_in_the_graph_is_a_faulty_manifest(tmp_path):
    manifest = write_toy(tmp_path / "probe")
    elsewhere = tuple(replace(site, input="nowhere") if site.role == "k" else site for site in manifest.sites)
    write_toy(tmp_path / "toy", sites=elsewhere)
    with pytest.raises(ConfigError, match="nowhere is not a value of the graph"):
        open_ort(tmp_path / "toy", taps=True)


def test_untapped_session_gives_only_the_results(runtime):
    feeds = feeds_for(runtime.manifest, np.ones((1, 3), int))
    assert set(runtime.run(feeds)) == {info.name for info in runtime.manifest.outputs}


def test_taps_need_a_tapped_session(tmp_path):
    manifest = write_toy(tmp_path / "toy")
    with open_ort(tmp_path / "toy") as runtime, pytest.raises(UsageError, match="taps=True"):
        runtime.run(feeds_for(manifest, np.ones((1, 3), int)), taps=True)


def test_right_padded_prompt_then_decode_follows_the_twin(runtime):
    """The fused operator compacts its cache, the others append: both go on from their own."""
    manifest, twin = runtime.manifest, Twin()
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    feeds = feeds_for(manifest, mask)
    mine, theirs = runtime.run(feeds), twin.run(feeds)
    for step in range(3):
        mask = np.concatenate([mask, np.ones((2, 1), int)], axis=1)
        positions = mask.sum(1, keepdims=True) - 1
        parts = [
            feeds_for(manifest, mask, positions, as_past(manifest, out), tokens=1, seed=step) for out in (mine, theirs)
        ]
        mine, theirs = runtime.run(parts[0], taps=True), twin.run(parts[1], taps=True)
        np.testing.assert_allclose(mine["logits"], theirs["logits"], atol=1e-4)
        np.testing.assert_allclose(mine["rotated.1.k"], theirs["rotated.1.k"], atol=1e-5)


def test_fused_decode_on_an_appended_past_needs_it_compacted(fused):
    manifest, twin = fused.manifest, Twin()
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    past = as_past(manifest, twin.run(feeds_for(manifest, mask)))
    mask = np.concatenate([mask, np.ones((2, 1), int)], axis=1)
    past = as_past(manifest, twin.run(feeds_for(manifest, mask, mask.sum(1)[:, None] - 1, past, tokens=1)))
    longer = np.concatenate([mask, np.ones((2, 1), int)], axis=1)
    appended = feeds_for(manifest, longer, longer.sum(1)[:, None] - 1, past, tokens=1)
    want = twin.run(appended)["logits"]
    compacted = fused.run(appended | in_cache_layout(manifest, past, mask))["logits"]
    np.testing.assert_allclose(compacted, want, atol=1e-4)
    assert np.abs(fused.run(appended)["logits"] - want)[1].max() > 1e-2


def test_fused_products_see_q_that_no_output_shows(fused):
    feeds = feeds_for(fused.manifest, np.ones((2, 6), int))
    got, want = fused.run(feeds, taps=True), Twin().run(feeds, taps=True)
    assert "rotated.0.q" not in got
    keys = np.repeat(want["rotated.1.k"], N // KV, axis=1)
    expected = np.tril(want["rotated.1.q"] @ keys.swapaxes(2, 3))
    np.testing.assert_allclose(np.tril(got["products.1"]), expected, atol=1e-4)


def test_products_are_silent_beyond_a_sliding_window(tmp_path):
    manifest = write_toy(tmp_path / "toy", "contrib")
    model = onnx.load(tmp_path / "toy" / MODEL_NAME, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            node.attribute.append(onnx.helper.make_attribute("local_window_size", 4))
    onnx.save(model, tmp_path / "toy" / MODEL_NAME)
    with open_ort(tmp_path / "toy", taps=True, verify=False) as runtime:
        assert "products.0" in runtime.run(feeds_for(manifest, np.ones((1, 4), int)), taps=True)
        assert "products.0" not in runtime.run(feeds_for(manifest, np.ones((1, 5), int)), taps=True)


def test_position_beyond_the_table_is_named(runtime):
    with pytest.raises(PositionOutOfRange) as refused:
        runtime.run(feeds_for(runtime.manifest, np.ones((2, 3), int), [[0, 1, 2], [0, 1, ROWS]]))
    assert f"position_ids[1, 2] = {ROWS} (batch 1, token 2)" in str(refused.value)
    assert f"0 to {ROWS - 1}" in str(refused.value)
    assert f"--max-position {ROWS + 1}" in str(refused.value)


def test_last_position_of_the_table_runs(runtime):
    runtime.run(feeds_for(runtime.manifest, np.ones((1, 1), int), [[ROWS - 1]]))


def test_changed_weights_are_refused(tmp_path):
    write_toy(tmp_path / "toy")
    data = tmp_path / "toy" / DATA_NAME
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UsageError, match=DATA_NAME):
        open_ort(tmp_path / "toy")


def test_folder_without_manifest_is_no_artifact(tmp_path):
    with pytest.raises(UsageError, match="not an artifact"):
        open_ort(tmp_path)


def test_faulty_manifest_lists_its_faults(tmp_path):
    write_toy(tmp_path / "toy")
    path = tmp_path / "toy" / "rope_deploy.json"
    path.write_text(
        path.read_text().replace('"task": "decoder"', '"task": "poem"').replace('"opset": 23', '"opset": "x"')
    )
    with pytest.raises(ConfigError) as refused:
        open_ort(tmp_path / "toy")
    assert len(refused.value.faults) == 2


def test_graph_that_cannot_load_is_a_vendor_error(tmp_path):
    write_toy(tmp_path / "toy")
    (tmp_path / "toy" / MODEL_NAME).write_bytes(b"not a model")
    with pytest.raises(VendorError, match="cannot load"):
        open_ort(tmp_path / "toy", verify=False)


def test_missing_provider_names_those_there_are(tmp_path):
    write_toy(tmp_path / "toy")
    with pytest.raises(EnvironmentMissing, match="CPUExecutionProvider"):
        open_ort(tmp_path / "toy", providers=["NoSuchExecutionProvider"])
