"""What `inspect` shows and what `check --audit` judges are the same sites, layouts and tables."""

from collections import Counter

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.graph.reading import read_rotations
from rope_deploy.graph.reading.survey import survey, survey_of
from rope_deploy.graph.rotating_operators import MULTIPLY_ADD, OPERATORS, RotatingOperator
from tests.audit.files import CONFIG, FORMS, Decoder, stored, write
from tests.graph import graphs
from tests.graph.graphs import ROWS, graph, rotation_graph
from tests.graph.raising.test_raise_rotations import two_sites

TABLES = stored(CONFIG)
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
