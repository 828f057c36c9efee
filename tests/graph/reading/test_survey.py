"""What `inspect` shows and what `check --audit` judges are the same sites, layouts and tables."""

import pkgutil
from collections import Counter
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from rope_deploy.graph.io import read_model
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.passes.sequences import FOLD_LIMIT
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.graph.reading import read_rotations
from rope_deploy.graph.reading.survey import survey, survey_of
from rope_deploy.graph.rotating_operators import MULTIPLY_ADD, OPERATORS, RotatingOperator
from rope_deploy.runs import inspect as inspect_module
from rope_deploy.runs.inspect import inspect_subject
from tests.audit.files import CONFIG, FORMS, WIDTH, Decoder, stored, write
from tests.graph import graphs
from tests.graph.graphs import ROWS, graph, rotation_graph
from tests.graph.raising.test_raise_rotations import two_sites

TABLES = stored(CONFIG)
LONG_TABLES = stored(CONFIG, 300)  # larger than the constants that are folded
DECODERS = {
    **{f"{form}, stored": Decoder(form=form, tables=TABLES) for form in FORMS},
    "computed": Decoder(),
    "computed, for an operator": Decoder(form="standard"),
    "interleaved": Decoder(tables=TABLES, interleaved=True),
    "partial": Decoder(rotary_dim=8),
    "one layer": Decoder(form="contrib", tables=TABLES, layers=(0,)),
    "keys alone": Decoder(form="standard", tables=TABLES, roles=("k",)),
    "counted": Decoder(positions="counted"),
    "cached": Decoder(positions="from the past", cached=True, tables=TABLES),
    "one token a call": Decoder(shape=("b", 1), tables=TABLES),
    "one size": Decoder(shape=(2, 24)),
    "angles of a matrix product": Decoder(matmul=True),
}


def agree(path) -> None:
    """The survey, which may lack weights, shows what the reading that an audit judges holds."""
    readings, shown = read_rotations(path), survey(path)
    assert shown == survey_of(readings)
    for reading in readings:
        counted = Counter(site.form for site in reading.sites)
        assert counted <= Counter(shown.forms)
        assert {name for table in reading.tables for name in table.constants} <= set(shown.tables)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_shows_each_of_its_sites_once(tmp_path, name):
    decoder = DECODERS[name]
    path = write(tmp_path / "model.onnx", decoder)
    agree(path)
    found = survey(path)
    expected = len(decoder.layers) * (2 if decoder.form == "fused" else len(decoder.roles))
    assert sum(found.forms.values()) == expected and len(found.forms) == 1
    assert found.tables == (("cos_cache", "sin_cache") if decoder.tables else ())
    assert found.runtime_cos_sin == (0 if decoder.tables else 2)
    (reading,) = read_rotations(path)
    assert {site.interleaved for site in reading.sites} == {decoder.interleaved}


@pytest.mark.parametrize("name", graphs.FORMS)
def test_a_rotation_of_several_sums_is_one(tmp_path, name):
    ir.save(rotation_graph(name), tmp_path / "model.onnx")
    agree(tmp_path / "model.onnx")
    assert survey(tmp_path / "model.onnx").forms == {MULTIPLY_ADD: 1}


@pytest.mark.parametrize("style", ["tables", "onnx", "contrib", "plugin"])
def test_a_rotation_has_the_form_of_the_style_that_wrote_it(tmp_path, style):
    raised = raise_rotations(graph(two_sites(), result="batch, 2, sequence, sequence"), ROWS)
    ir.save(lower_rotations(raised, style, opset=23).model, tmp_path / "model.onnx")
    agree(tmp_path / "model.onnx")
    form = {
        "tables": MULTIPLY_ADD,
        "onnx": "RotaryEmbedding (ONNX)",
        "contrib": "com.microsoft.RotaryEmbedding",
        "plugin": "rope_deploy.RopeRotateQK",
    }[style]
    assert survey(tmp_path / "model.onnx").forms == {form: 2}


def test_both_branches_of_an_if_are_searched(tmp_path):
    path = write(tmp_path / "model.onnx", Decoder())
    model = onnx.load(path)
    inner = onnx.GraphProto()
    inner.CopyFrom(model.graph)
    del inner.input[:]
    other = onnx.GraphProto()
    other.CopyFrom(inner)
    for node in other.node:
        node.output[:] = [f"{name}/other" for name in node.output]
        made = {name for one in inner.node for name in one.output}
        node.input[:] = [f"{name}/other" if name in made else name for name in node.input]
    for value in other.output:
        value.name += "/other"
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.input.append(helper.make_tensor_value_info("use_cache", onnx.TensorProto.BOOL, []))
    model.graph.node.append(helper.make_node("If", ["use_cache"], ["y"], then_branch=inner, else_branch=other))
    onnx.save(model, path)
    agree(path)
    assert len(read_rotations(path)) == 2 and survey(path).forms == {MULTIPLY_ADD: 4}


def test_a_file_without_its_weights_shows_its_sites_and_says_what_is_missing(tmp_path):
    path = write(tmp_path / "model.onnx", Decoder(form="standard", tables=TABLES))
    whole = survey(path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=512)
    agree(path)
    (tmp_path / "weights").unlink()
    bare = survey(path)
    assert (bare.forms, bare.tables, bare.nodes) == (whole.forms, whole.tables, whole.nodes)
    assert any(hazard.startswith("weights, which holds weights, is not there") for hazard in bare.hazards)


def with_large_weights(path: Path, decoder: Decoder) -> dict[str, int]:
    """Write `decoder` with a head and a product of weights, its weights and tables in another file; sizes by name."""
    model = onnx.load(write(path, decoder))
    for name, shape in {"head": (WIDTH, 64), "other": (64, WIDTH)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    for result, factors in {"logits": ["y", "head"], "square": ["head", "other"]}.items():
        model.graph.node.append(helper.make_node("MatMul", factors, [result]))
        model.graph.output.append(helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None))
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=512)
    return {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}


@pytest.fixture
def read(monkeypatch) -> set[str]:
    """Collects the names of the tensors that are read from another file, also by what `inspect` runs in a child."""
    names: set[str] = set()
    for method in ("_load", "tofile"):
        original = getattr(ir.ExternalTensor, method)
        logged = lambda self, *given, original=original: (names.add(self.name), original(self, *given))[1]  # noqa: E731
        monkeypatch.setattr(ir.ExternalTensor, method, logged)
    here = lambda target, *given, **options: pkgutil.resolve_name(target)(*given)  # noqa: E731
    monkeypatch.setattr(inspect_module, "call", here)
    return names


@pytest.mark.parametrize("name", DECODERS)
def test_of_large_tensors_only_the_tables_are_read(tmp_path, read, name):
    decoder = replace(DECODERS[name], tables=DECODERS[name].tables and LONG_TABLES)
    sizes = with_large_weights(tmp_path / "model.onnx", decoder)
    found = inspect_subject(str(tmp_path / "model.onnx"))
    assert "none recognised" not in found.facts["forms"]
    large = {tensor for tensor in read if sizes[tensor] > FOLD_LIMIT}
    assert large == ({"cos_cache", "sin_cache"} if decoder.tables else set())


def test_a_large_weight_that_is_read_is_noticed(tmp_path, read):
    with_large_weights(tmp_path / "model.onnx", DECODERS["computed"])
    read_model(tmp_path / "model.onnx").graph.initializers["head"].const_value.numpy()
    assert read == {"head"}


@pytest.mark.parametrize("operator", [one for one in OPERATORS if one.opaque], ids=lambda one: one.name)
def test_an_operator_whose_rotation_is_hidden_is_shown_as_unread(tmp_path, operator: RotatingOperator):
    path = write(tmp_path / "model.onnx", Decoder(tables=TABLES))
    model = onnx.load(path)
    attributes = {"do_rotary": 1} if operator.fused else {}
    hidden = helper.make_node(operator.name, ["y/before"], ["y"], "hidden", domain=operator.domain, **attributes)
    last = next(node for node in model.graph.node if "y" in node.output)
    last.output[:] = ["y/before"]
    model.graph.node.append(hidden)
    onnx.save(model, path)
    agree(path)
    (reading,) = read_rotations(path)
    assert [one.node for one in reading.unread] == ["hidden"]
    assert any("hidden" in hazard for hazard in survey(path).hazards)
