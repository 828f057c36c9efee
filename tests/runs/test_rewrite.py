"""Every style can be rewritten to every other, is run before it is kept, and what answers otherwise is not written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from rope_deploy.errors import CheckFailed, MistakeFound, UnmatchedRotation
from rope_deploy.export import prepare, write
from rope_deploy.graph.passes import sequences
from rope_deploy.graph.passes.keep_proven_shapes import KeepProvenShapesPass
from rope_deploy.graph.reading.declared_inputs import inputs_of
from rope_deploy.options import RewriteOptions
from rope_deploy.runs.rewrite import rewrite_judged
from rope_deploy.runs.trial_calls import trial_calls
from rope_deploy.styles import STYLES
from tests import tiny
from tests.graph.graphs import rotation_graph, with_tokens
from tests.shapes import false_shapes
from tests.sweep import swept

FAMILIES = ("llama", "gpt_neox", "gptj")  # grouped heads; part of a head turns; neighbours are pairs
GROUPED = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each family in each style, attention unfused: FAMILY/STYLE/model.onnx."""
    folder = tmp_path_factory.mktemp("written")
    for family in FAMILIES:
        ready = prepare(tiny.loaded(family, **(GROUPED if family == "llama" else {})))
        for style in STYLES:
            write(ready, folder / family / style, style, fused_attention=False)
    return folder


def answers(path: Path) -> list[dict[str, np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    calls = trial_calls(inputs_of(path), 100, batch=2, far=True)
    return [dict(zip(names, session.run(names, dict(call.feeds)), strict=True)) for call in calls]


@pytest.mark.slow
@pytest.mark.parametrize("before", STYLES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_style_becomes_every_other(written, tmp_path, family, before):
    source = written / family / before / "model.onnx"
    right = answers(source)
    assert len(right) == 4
    for after in STYLES:
        record = rewrite_judged(source, tmp_path / f"{after}.onnx", RewriteOptions(after))
        assert record.ran.startswith("Run beside the original in ONNX Runtime: 4 calls")
        for want, got in zip(right, answers(tmp_path / f"{after}.onnx"), strict=True):
            for name, expected in want.items():
                np.testing.assert_allclose(got[name], expected, atol=2e-5, rtol=1e-4)
        for call in trial_calls(inputs_of(source), 100, batch=2, far=False):
            assert false_shapes(tmp_path / f"{after}.onnx", call.feeds) == []


@pytest.mark.slow
def test_inputs_and_outputs_keep_the_names_of_their_axes(written, tmp_path):
    source = written / "llama" / "tables" / "model.onnx"
    renamed = onnx.load(source)
    for value in (*renamed.graph.input, *renamed.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = f"{dim.dim_param} of theirs"
    onnx.save(renamed, tmp_path / "theirs.onnx")
    rewrite_judged(tmp_path / "theirs.onnx", tmp_path / "new.onnx", RewriteOptions("onnx"))
    new = onnx.load(tmp_path / "new.onnx", load_external_data=False).graph
    assert [v.SerializeToString() for v in new.input] == [v.SerializeToString() for v in renamed.graph.input]
    assert [v.SerializeToString() for v in new.output] == [v.SerializeToString() for v in renamed.graph.output]


@pytest.mark.slow
def test_a_fused_attention_is_refused_with_its_reason(tmp_path):
    write(prepare(tiny.loaded("llama")), tmp_path / "fused", "contrib")
    with pytest.raises(UnmatchedRotation, match="rotates inside a fused attention"):
        rewrite_judged(tmp_path / "fused" / "model.onnx", tmp_path / "out.onnx", RewriteOptions("tables"))


# What is planted here is found only by running.


def turned_back(model: ir.Model) -> None:
    """The sine of every table with the wrong sign."""
    for name, value in model.graph.initializers.items():
        if name.endswith("sin_cache"):
            value.const_value = ir.tensor(-value.const_value.numpy(), name=name)


def misnamed(model: ir.Model) -> None:
    """Axes whose length is not known are called that of the tokens, where shape inference gave them no name."""
    for node in model.graph:
        for value in node.outputs:
            if value.shape is not None and len(value.shape) == 4:
                known = [str(dim) in ("batch", "past", "sequence") or isinstance(dim, int) for dim in value.shape]
                value.shape = ir.Shape(
                    [dim if is_known else "sequence" for dim, is_known in zip(value.shape, known, strict=True)]
                )


def cut_off(model: ir.Model) -> None:
    model.graph.outputs.pop()


PLANTED = {
    "a sine of the wrong sign": (turned_back, "output .* is off by"),
    "a false shape": (misnamed, "the rewritten file does not"),
    "an output that is gone": (cut_off, "is gone"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", swept(PLANTED, ["a sine of the wrong sign"]))
def test_what_answers_otherwise_is_not_written(written, tmp_path, monkeypatch, case):
    plant, reason = PLANTED[case]
    source, target = written / "llama" / "tables" / "model.onnx", tmp_path / "out.onnx"
    rewrite_judged(source, target, RewriteOptions("tables"))
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    class Planted(KeepProvenShapesPass):
        def call(self, model):
            result = super().call(model)
            plant(model)
            return result

    monkeypatch.setattr(sequences, "KeepProvenShapesPass", Planted)
    with pytest.raises(CheckFailed, match=reason) as caught:
        rewrite_judged(source, target, RewriteOptions("tables", force=True))
    assert caught.value.exit_code == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert rewrite_judged(source, target, RewriteOptions("tables", force=True, run=False)).ran == ""


def test_what_cannot_be_run_here_says_so(tmp_path):
    model = with_tokens(rotation_graph("rotate_half"))
    (result,) = model.graph.outputs
    node = ir.node("Unheard", [result], domain="of.theirs", outputs=[ir.val("z", dtype=result.dtype)])
    node.outputs[0].shape = result.shape
    model.graph.append(node)
    model.graph.outputs[0] = node.outputs[0]
    model.graph.opset_imports["of.theirs"] = 1
    ir.save(model, tmp_path / "theirs.onnx")
    record = rewrite_judged(tmp_path / "theirs.onnx", tmp_path / "out.onnx", RewriteOptions("tables", max_position=16))
    assert record.ran.startswith("Not run: the original cannot be run here")
    assert "Unheard" in record.ran


def test_bfloat16_cannot_be_fed(tmp_path):
    ir.save(with_tokens(rotation_graph("rotate_half", dtype="bfloat16")), tmp_path / "theirs.onnx")
    record = rewrite_judged(tmp_path / "theirs.onnx", tmp_path / "out.onnx", RewriteOptions("tables", max_position=16))
    assert record.ran == "Not run: nothing can be fed to x (bfloat16)."


# Angles in half precision

HALF = """
  p = Cast <to = 10> (position_ids)
  column = Unsqueeze(p, last)
  short = Cast <to = 10> (inv_freq)
  product = Mul(column, short)
  angle = Cast <to = 1> (product)
  cos = Cos(angle)
  sin = Sin(angle)
"""
CONFIG = (
    '{"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 8192, '
    '"rope_parameters": {"rope_type": "default", "rope_theta": 10.0}}'
)


@pytest.mark.sweep
def test_angles_in_half_are_refused_accepted_or_taken_from_the_configuration(tmp_path):
    ir.save(with_tokens(rotation_graph("rotate_half", angles=HALF)), tmp_path / "half.onnx")
    ir.save(with_tokens(rotation_graph("rotate_half")), tmp_path / "right.onnx")
    (tmp_path / "config.json").write_text(CONFIG)
    config, source, target = tmp_path / "config.json", tmp_path / "half.onnx", tmp_path / "out.onnx"
    for given in ({"config": config}, {"max_position": 8192}):
        with pytest.raises(MistakeFound, match="RD501") as caught:
            rewrite_judged(source, target, RewriteOptions("tables", **given))
        assert caught.value.codes == ("RD501",)
        assert not target.exists()
        accepting = RewriteOptions("tables", **given, accept=("RD501",), force=True)
        assert "Accepted" in rewrite_judged(source, target, accepting).findings[0]
        target.unlink()
    mended = rewrite_judged(source, target, RewriteOptions("tables", config=config, angles="float64"))
    assert "computed in fp64 from the configuration instead" in mended.findings[0]
    positions = np.array([[0, 1, 4001, 8191]])
    feeds = {
        "x": np.random.default_rng(0).standard_normal((1, 2, 4, 8)).astype(np.float32),
        "input_ids": np.zeros((1, 4), np.int64),
        "position_ids": positions,
    }
    expected, got, wrong = (
        onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for name in ("right.onnx", "out.onnx", "half.onnx")
    )
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert np.abs(wrong - expected).max() > 0.1, "the twin: half angles are another thing"
    (one_sided,) = rewrite_judged(
        tmp_path / "right.onnx", target, RewriteOptions("tables", config=config, force=True)
    ).findings
    assert one_sided == "In layer 0 the file rotates q and no k of their own; it is written so."
