"""No field of a manifest talks a check of a wrong graph out of its verdict."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from faults.manifest_edits import all_sites, at, both
from faults.wrong_artifacts import tampered
from faults.wrong_graphs import (
    contradicting_attribute,
    exchanged_tokens,
    frozen_from,
    other_base,
    triggered_by,
    unguarded_positions,
    unrotated_keys,
    with_constant,
    with_metadata,
)
from rope_deploy import api
from rope_deploy.artifact import Limits, Manifest, Rotation, Site
from rope_deploy.errors import ModelError, UsageError
from tests import tiny
from tests.sweep import swept

ROWS = 20
OTHER_BASE, FROZEN = other_base(), frozen_from(ROWS + 1)


def keep(document):
    pass


def drop(name):
    return at("files", value=lambda files: {key: info for key, info in files.items() if key not in name})


def without(role):
    return at("sites", value=lambda sites: [site for site in sites if site["role"] != role])


def spec_theta(document):
    document["rotations"][0]["spec"]["rope_parameters"]["rope_theta"] = 5e5


# (class, field): a change that once helped or might, and the wrong graph beside it.
TAMPERINGS = {
    (Manifest, "source"): (at("source", value="nowhere/at-all"), exchanged_tokens),
    (Manifest, "model_type"): (at("model_type", value="bert"), exchanged_tokens),
    (Manifest, "task"): (at("task", value="encoder"), exchanged_tokens),
    (Manifest, "cache"): (at("cache", value=False), exchanged_tokens),
    (Manifest, "layers"): (both(at("layers", value=1), at("sites", value=lambda all: all[:2])), exchanged_tokens),
    (Manifest, "style"): (at("style", value="tables"), exchanged_tokens),
    (Manifest, "opset"): (at("opset", value=18), exchanged_tokens),
    (Manifest, "dtype"): (at("dtype", value="bfloat16"), exchanged_tokens),
    (Manifest, "angles"): (at("angles", value="float64"), OTHER_BASE),
    (Manifest, "max_position"): (at("max_position", value=ROWS), FROZEN),
    (Manifest, "fused_attention"): (at("fused_attention", value=True), exchanged_tokens),
    (Manifest, "inputs"): (at("inputs", value=lambda all: [i for i in all if i["name"] != "position_ids"]), OTHER_BASE),
    (Manifest, "outputs"): (at("outputs", value=lambda all: all[1:] + all[:1]), exchanged_tokens),
    (Manifest, "rotations"): (both(at("rotations", value=[]), at("sites", value=[])), OTHER_BASE),
    (Manifest, "sites"): (at("sites", value=[]), OTHER_BASE),
    (Manifest, "tolerances"): (at("tolerances", value={"logits": 1e9, "rotated": 1e9}), exchanged_tokens),
    (Manifest, "vocab_size"): (at("vocab_size", value=1), exchanged_tokens),
    (Manifest, "fixed"): (at("fixed", value={"position_ids": {"dtype": "int64", "values": [[0]]}}), OTHER_BASE),
    (Manifest, "limits"): (at("limits", value={"left_padding": False, "note": "it cannot"}), exchanged_tokens),
    (Manifest, "findings"): (
        at(
            "findings",
            value=[
                {"code": "table-differs", "severity": "info", "message": "rope_0: the model's are exported."},
                {"code": "unmatched", "severity": "info", "message": "Left as it was: k."},
            ],
        ),
        OTHER_BASE,
    ),
    (Manifest, "patches"): (at("patches", value=["nothing"]), exchanged_tokens),
    (Manifest, "versions"): (at("versions", value={}), exchanged_tokens),
    (Manifest, "files"): (at("files", value={}), exchanged_tokens),
    (Manifest, "schema_version"): (at("schema_version", value=3), exchanged_tokens),
    (Site, "layer"): (
        all_sites("layer", lambda site: 1 - site["layer"] if site["layer"] < 2 else site["layer"]),
        OTHER_BASE,
    ),
    (Site, "role"): (all_sites("role", lambda site: "qk"[site["role"] == "q"]), unrotated_keys),
    (Site, "rotation"): (all_sites("rotation", "another"), OTHER_BASE),
    (Site, "num_heads"): (all_sites("num_heads", lambda site: 1), unrotated_keys),
    (Site, "head_dim"): (all_sites("head_dim", lambda site: site["head_dim"] * site["num_heads"]), unrotated_keys),
    (Site, "layout"): (all_sites("layout", "BNSH"), unrotated_keys),
    (Site, "input"): (all_sites("input", None), unrotated_keys),
    (Site, "output"): (all_sites("output", None), unrotated_keys),
    (Site, "present"): (all_sites("present", "present.9.key"), unrotated_keys),
    (Site, "scores"): (all_sites("scores", "logits"), unrotated_keys),
    (Site, "scale"): (all_sites("scale", 1e9), unrotated_keys),
    (Site, "occurrence"): (all_sites("occurrence", 1), unrotated_keys),
    (Rotation, "name"): (at("rotations", 0, "name", value="other"), OTHER_BASE),
    (Rotation, "spec"): (spec_theta, OTHER_BASE),
    (Rotation, "cos_cache"): (at("rotations", 0, "cos_cache", value=None), OTHER_BASE),
    (Rotation, "sin_cache"): (at("rotations", 0, "sin_cache", value="rope_0.cos_cache"), OTHER_BASE),
    (Rotation, "rows"): (both(at("rotations", 0, "rows", value=ROWS), at("max_position", value=ROWS)), FROZEN),
    (Rotation, "cos_sin"): (at("rotations", 0, "cos_sin", value="computed"), OTHER_BASE),
    (Rotation, "axes"): (at("rotations", 0, "axes", value=[2] * 8), OTHER_BASE),
    (Rotation, "rotary_dim"): (at("rotations", 0, "rotary_dim", value=2), OTHER_BASE),
    (Rotation, "interleaved"): (at("rotations", 0, "interleaved", value=True), OTHER_BASE),
    (Rotation, "element_order"): (at("rotations", 0, "element_order", value=[0] * 16), OTHER_BASE),
    (Limits, "left_padding"): (at("limits", "left_padding", value=False), exchanged_tokens),
    (Limits, "chunked_prefill_batch"): (at("limits", "chunked_prefill_batch", value=False), exchanged_tokens),
    (Limits, "prompt_positions"): (at("limits", "prompt_positions", value=False), FROZEN),
    (Limits, "padded_past"): (at("limits", "padded_past", value=False), exchanged_tokens),
    (Limits, "tokens"): (at("limits", "tokens", value=0), exchanged_tokens),
    (Limits, "note"): (at("limits", "note", value="Everything was checked by hand."), exchanged_tokens),
}
# What is true of any graph, or is only said: the cases themselves find the fault.
HARMLESS = {
    (Manifest, "fixed"), (Manifest, "findings"), (Manifest, "patches"), (Manifest, "versions"), (Limits, "note"),
    (Rotation, "axes"), (Rotation, "interleaved"), (Rotation, "element_order"), (Site, "scale"),
}  # fmt: skip

FEW = {
    (Manifest, "source"), (Manifest, "sites"), (Manifest, "files"), (Site, "role"), (Rotation, "rows"),
    (Limits, "left_padding"),
}  # fmt: skip


def swept_fields(fields):
    return [pytest.param(*one, marks=() if one in FEW else pytest.mark.sweep) for one in fields]


@pytest.fixture(scope="module")
def loaded(source):
    from rope_deploy.models import load_model

    return load_model(str(source))


def verdict(folder, loaded, **options):
    """What becomes of a check: "refused" or the verdict; and its report."""
    try:
        report = api.check(folder, quick=True, model=loaded, **options)
    except UsageError as error:
        return "refused", error
    return report.verdict, report


def test_every_field_is_tampered_with():
    assert set(TAMPERINGS) == {(kind, one.name) for kind in (Manifest, Site, Rotation, Limits) for one in fields(kind)}


@pytest.mark.parametrize(
    ("kind", "name"), swept_fields(TAMPERINGS), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_wrong_graph_is_wrong_whatever_its_manifest_says(artifacts, tmp_path, loaded, kind, name):
    edit, fault = TAMPERINGS[kind, name]
    folder = tampered(artifacts / "onnx", tmp_path / "wrong", edit, fault)
    if (kind, name) == (Manifest, "source"):
        with pytest.raises(ModelError, match="othing is fetched"):
            api.check(folder, quick=True)
    assert verdict(folder, loaded)[0] in ("refused", "failed")


@pytest.mark.parametrize("style", ["tables", "onnx", "contrib", "plugin"])
def test_what_was_exported_is_true_and_passes(artifacts, tmp_path, loaded, style):
    folder = tampered(artifacts / style, tmp_path / style, keep)
    found, report = verdict(folder, loaded)
    assert found == "passed" and not report.diagnoses
    limits = [record for record in report.checks if record.case == "limits"]
    assert [record.verdict for record in limits] == ["skipped"] * (style == "contrib")


@pytest.mark.parametrize(
    ("kind", "name"), swept_fields(sorted(set(TAMPERINGS) - HARMLESS - {(Manifest, "source")}, key=str)), ids=str
)
def test_a_right_graph_does_not_excuse_its_manifest(artifacts, tmp_path, loaded, kind, name):
    """Each of these is noticed for what it says, without a wrong graph beside it."""
    folder = tampered(artifacts / "onnx", tmp_path / "right", TAMPERINGS[kind, name][0])
    assert verdict(folder, loaded)[0] in ("refused", "failed")


def test_a_graph_that_only_we_guard_fails(artifacts, tmp_path, loaded):
    """In a program of somebody else's its position −2 is the last one of the table."""
    folder = tampered(artifacts / "tables", tmp_path / "wrong", keep, unguarded_positions)
    found, report = verdict(folder, loaded)
    assert found == "failed"
    (failed,) = [record for record in report.checks if record.verdict == "failed"]
    assert failed.case == "refuses-further-below" and "position -2" in failed.message
    assert [one.code for one in report.diagnoses] == ["RD206"]


@pytest.mark.parametrize("style", swept(["tables", "onnx", "contrib", "plugin"], ["contrib"]))
@pytest.mark.parametrize("by", ["batch", "tokens", "mask", "others"])
def test_a_graph_that_rotates_otherwise_in_calls_that_no_case_makes_fails(artifacts, tmp_path, loaded, style, by):
    folder = tampered(artifacts / style, tmp_path / "wrong", keep, triggered_by(by))
    found, report = verdict(folder, loaded)
    assert found == "failed" and "RD609" in {one.code for one in report.diagnoses}
    assert "RD609" in {one.code for one in api.audit(folder).diagnoses}


def test_an_operator_that_says_what_its_body_does_not_is_refused(artifacts, tmp_path, loaded):
    folder = tampered(artifacts / "plugin", tmp_path / "wrong", keep, contradicting_attribute)
    found, reported = verdict(folder, loaded)
    assert found == "refused" and "its body does not rotate as its attributes say" in str(reported)
    assert "RD607" in {one.code for one in api.audit(folder).diagnoses}


def in_bfloat16(model):
    """The logits leave the graph in a type whose tolerances hide anything."""
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[0] = "exact"
    model.graph.node.append(helper.make_node("Cast", ["exact"], ["logits"], to=TensorProto.BFLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.BFLOAT16


def renamed(model):
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[0] = model.graph.output[0].name = "last_hidden_state"


def decoy(model):
    """Beside the keys as they came, keys as they should be, which nothing uses but the check."""
    (site,) = [node for node in model.graph.node if "rope.0.k.out" in node.output]
    right = helper.make_node(site.op_type, list(site.input), ["decoy"], name="decoy", domain=site.domain)
    right.attribute.extend(site.attribute)
    unrotated_keys(model)
    position = next(i for i, node in enumerate(model.graph.node) if "rope.0.k.out" in node.output)
    model.graph.node.insert(position, right)


def idle_attention(model):
    """An operator with limits, whose results nothing uses."""
    ids = [f"past_key_values.0.{part}" for part in ("key", "value")]
    node = helper.make_node(
        "GroupQueryAttention", ["rope.0.q.out", "", "", *ids], ["idle", "idle.key", "idle.value"], "idle",
        domain="com.microsoft", do_rotary=1, num_heads=9, kv_num_heads=3,
    )  # fmt: skip
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


SHORT = np.ones((ROWS + 1, 8), np.float32)
FEW = both(at("limits", "tokens", value=1))
FUSED = both(at("fused_attention", value=True), at("limits", "left_padding", value=False))
IN_HALF = both(at("dtype", value="bfloat16"), at("outputs", 0, "dtype", value="bfloat16"))
DECOY_TABLE = both(
    at("max_position", value=ROWS), at("rotations", 0, "rows", value=ROWS), at("rotations", 0, "cos_cache", value="c"),
    at("rotations", 0, "sin_cache", value="s"),
)  # fmt: skip
CUNNING = {
    "limit-in-metadata": (FEW, exchanged_tokens, with_metadata("rope_deploy.tokens", "1")),
    "limit-of-an-idle-operator": (FUSED, exchanged_tokens, idle_attention),
    "result-in-bfloat16": (IN_HALF, exchanged_tokens, in_bfloat16),
    "result-of-another-name": (at("outputs", 0, "name", value="last_hidden_state"), exchanged_tokens, renamed),
    "shorter-tables-that-nothing-reads": (DECOY_TABLE, FROZEN, with_constant("c", SHORT), with_constant("s", SHORT)),
    "a-right-rotation-that-nothing-reads": (
        at("sites", value=lambda all: [s | {"output": "decoy"} if s["output"] == "rope.0.k.out" else s for s in all]),
        decoy,
    ),
    "site-that-takes-what-it-gives": (all_sites("input", lambda site: site["output"]), unrotated_keys),
    "q-alone": (without("k"), unrotated_keys),
    "twice-the-same-site": (at("sites", value=lambda all: all + all[:1]), unrotated_keys),
    "no-number": (at("tolerances", value={"logits": float("nan"), "rotated": 1e-4}), exchanged_tokens),
    "below-zero": (at("tolerances", value={"logits": -1.0, "rotated": 1e-4}), exchanged_tokens),
    "just-above": (at("tolerances", value={"logits": 1.1e-3, "rotated": 1e-4}), exchanged_tokens),
    "weights-not-listed": (drop(("model.onnx.data",)), exchanged_tokens),
    "graph-not-listed": (drop(("model.onnx",)), exchanged_tokens),
    "no-rule": (at("rotations", 0, "spec", value={}), OTHER_BASE),
    "a-rule-that-scales": (
        at("rotations", 0, "spec", "rope_parameters", value={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}),
        OTHER_BASE,
    ),
    "half-the-head": (at("rotations", 0, "spec", "rotary_dim", value=2), OTHER_BASE),
    "without-vocabulary": (at("vocab_size", value=None), exchanged_tokens),
    "many-layers": (both(at("layers", value=10**9), at("sites", value=[])), exchanged_tokens),
    "a-past-of-one-head": (at("inputs", 3, "shape", 1, value=1), exchanged_tokens),
    "positions-of-three-axes": (at("inputs", 2, "shape", value=[3, "batch", "sequence"]), OTHER_BASE),
    "limit-and-note": (at("limits", value={"padded_past": False, "tokens": 4, "note": "by design"}), exchanged_tokens),
}

FEW_CUNNING = ("limit-in-metadata", "result-in-bfloat16", "a-right-rotation-that-nothing-reads", "no-rule")


@pytest.mark.parametrize("name", swept(CUNNING, FEW_CUNNING))
def test_neither_does_a_graph_that_was_made_to_agree(artifacts, tmp_path, loaded, name):
    edit, *graphs = CUNNING[name]
    found, reported = verdict(tampered(artifacts / "onnx", tmp_path / "wrong", edit, *graphs), loaded)
    assert found in ("refused", "failed"), reported


@pytest.mark.slow
def test_the_command_may_ask_for_less(artifacts, tmp_path, loaded):
    """A limit that is known of is allowed by name, and then what lies within it is judged."""
    edit, few = at("limits", "tokens", value=64), with_metadata("rope_deploy.tokens", "64")
    folder = tampered(artifacts / "onnx", tmp_path / "few", edit, few)
    found, report = verdict(folder, loaded)
    assert found == "failed" and [one.code for one in report.diagnoses] == ["RD608"]
    assert verdict(folder, loaded, allow_limits=("tokens",))[0] == "passed"
    wrong = tampered(artifacts / "onnx", tmp_path / "wrong", edit, few, exchanged_tokens)
    assert verdict(wrong, loaded, allow_limits=("tokens",))[0] == "failed"
    with pytest.raises(UsageError, match="There is no limit none"):
        api.check(folder, allow_limits=("none",))


@pytest.mark.slow
def test_a_model_that_agrees_with_a_wrong_graph_is_named_in_the_report(artifacts, source, tmp_path, loaded):
    """Nobody but the user knows which model an artifact must equal: `--model` says so."""
    model = tiny.build("smollm2")
    with torch.no_grad():
        weight = model.lm_head.weight
        weight[[0, 1]] = weight[[1, 0]]
    other = tiny.save(model, tmp_path / "other")
    folder = tmp_path / "artifact"
    api.export(str(other), folder, styles=("onnx",))
    report = api.check(folder, quick=True)
    assert report.verdict == "passed" and f"Compared with {other}, which the manifest names." in report.notes
    assert api.check(folder, quick=True, model=str(source)).verdict == "failed"


@pytest.mark.slow
def test_one_style_without_a_manifest_fails(artifacts, tmp_path, loaded):
    for style in ("tables", "onnx"):
        tampered(artifacts / style, tmp_path / style, keep, *([exchanged_tokens] if style == "onnx" else []))
    (tmp_path / ".onnx.tmp").mkdir()
    (tmp_path / ".onnx.tmp" / "model.onnx").write_bytes(b"left by a run that was killed")
    assert verdict(tmp_path, loaded)[0] == "failed"
    (tmp_path / "onnx" / "rope_deploy.json").unlink()
    found, report = verdict(tmp_path, loaded)
    failed = [record for record in report.checks if record.verdict == "failed"]
    assert found == "failed" and [(one.style, one.case) for one in failed] == [("onnx", "open")]
    assert "holds a graph, and is no artifact" in failed[0].message


def test_what_is_not_listed_is_named(artifacts, tmp_path, loaded):
    folder = tampered(artifacts / "onnx", tmp_path / "more", keep)
    (folder / "modeling.py").write_text("")
    found, report = verdict(folder, loaded)
    assert found == "passed" and "more: not listed in the manifest: modeling.py." in report.notes


def test_without_pytorch_the_verdict_says_what_it_did_not_see(artifacts):
    report = api.check(artifacts / "onnx", quick=True, reference=False)
    assert report.title.endswith(", without PyTorch")
    assert any("nobody compared results" in note and "the rule" in note for note in report.notes)


def test_an_audit_is_not_talked_out_of_it_either(artifacts, tmp_path):
    """It has no model: what the manifest accepts is not accepted, and what it says of its graph is compared."""
    finding = {"code": "table-differs", "severity": "info", "message": "rope_0: the model's are exported."}
    folder = tampered(artifacts / "onnx", tmp_path / "accepted", at("findings", value=[finding]), OTHER_BASE)
    assert "RD301" in {one.code for one in api.audit(folder).diagnoses}
    folder = tampered(artifacts / "onnx", tmp_path / "short", at("max_position", value=ROWS), FROZEN)
    assert "RD607" in {one.code for one in api.audit(folder).diagnoses}
    document = json.loads((artifacts / "onnx" / "rope_deploy.json").read_text())
    assert document["max_position"] > ROWS and api.audit(artifacts / "onnx").verdict == "passed"
