"""Rewriting files of other exporters, and our own: the same results, another style; or a reason."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from rope_deploy.errors import UnmatchedRotation, UsageError
from rope_deploy.graph.rewrite import Rewritten, rewrite_graph
from rope_deploy.styles import STYLES
from tests import tiny
from tests.graph.graphs import POSITIONS, ROWS, activation, graph, oracle, rotation_graph, with_tokens
from tests.sweep import swept

LENGTH = 64


class WithPositions(torch.nn.Module):
    """A decoder as people export it: explicit positions, no cache."""

    def __init__(self):
        super().__init__()
        self.model = tiny.build("qwen2", num_hidden_layers=1)

    def forward(self, input_ids, attention_mask, position_ids):
        return self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False).logits


@dataclass(frozen=True)
class Call:
    feeds: dict[str, np.ndarray]
    logits: np.ndarray


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Call]:
    """A tiny model as torch.onnx exports it at opset 18, and what PyTorch answers to a call with odd positions."""
    model, path = WithPositions().eval(), tmp_path_factory.mktemp("exported") / "model.onnx"
    ids = torch.ones(2, 5, dtype=torch.long)
    batch, sequence = torch.export.Dim("b"), torch.export.Dim("s")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns about packages of its own registry
        program = torch.onnx.export(
            model,
            (ids, torch.ones_like(ids), ids.cumsum(1)),  # one tensor given twice would become one input
            dynamo=True,
            opset_version=18,
            optimize=False,
            verbose=False,
            dynamic_shapes=({0: batch, 1: sequence},) * 3,
        )
    program.save(path, external_data=True)
    feeds = {
        "input_ids": np.random.default_rng(0).integers(3, tiny.VOCAB, (2, 7)),
        "attention_mask": np.array([[1] * 7, [1] * 5 + [0] * 2]),
        "position_ids": np.array([np.arange(7) * 3, np.arange(7) + 40]),
    }
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).numpy()
    return path, Call(feeds, logits)


def answer(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def operators(path: Path) -> set[str]:
    return {node.op_type for node in ir.load(path).graph}


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_a_file_of_torch_onnx_answers_as_before_in_every_style(exported, tmp_path, style):
    path, call = exported
    assert {"Cos", "Sin"} <= operators(path)
    written = rewrite_graph(path, tmp_path / "new.onnx", style, max_position=LENGTH)
    assert (written.sites, len(written.rotations), written.summary.runtime_cos_sin) == (2, 1, 0)
    assert written.opset == (23 if style == "onnx" else 18)
    got = answer(written.path, call.feeds)
    np.testing.assert_allclose(got, call.logits, atol=1e-4)
    counted = {**call.feeds, "position_ids": np.tile(np.arange(7), (2, 1))}
    assert np.abs(answer(written.path, counted) - call.logits).max() > 1e-2, "positions matter"


@pytest.mark.parametrize("before", swept(STYLES, ["contrib"]))
def test_what_we_wrote_can_be_rewritten_again(exported, tmp_path, before):
    path, call = exported
    first = rewrite_graph(path, tmp_path / "first.onnx", before, max_position=LENGTH)
    for style in STYLES:
        second = rewrite_graph(first.path, tmp_path / f"{style}.onnx", style)
        assert len(second.rotations[0].table.cos) == LENGTH, "the length is read from the file's own table"
        np.testing.assert_array_equal(second.rotations[0].table.cos, first.rotations[0].table.cos)
        np.testing.assert_allclose(answer(second.path, call.feeds), call.logits, atol=1e-4)


def test_weights_are_beside_the_graph_once_and_nothing_else_is_left(exported, tmp_path):
    path, _ = exported
    written = rewrite_graph(path, tmp_path / "new.onnx", "tables", max_position=LENGTH)
    ((name, info),) = written.summary.weights.items()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.onnx", name]
    weights = sum(p.numel() * 4 for p in WithPositions().parameters())
    assert info.bytes < 1.2 * weights
    assert written.path.stat().st_size < 100_000


def test_a_file_can_take_its_own_place(exported, tmp_path):
    path, call = exported
    target = rewrite_graph(path, tmp_path / "new.onnx", "tables", max_position=LENGTH).path
    rewrite_graph(target, target, "onnx", force=True)
    assert "RotaryEmbedding" in operators(target)
    np.testing.assert_allclose(answer(target, call.feeds), call.logits, atol=1e-4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def shared(exported, tmp_path) -> Path:
    """A file whose weights have the name that another file's would have, and one of somebody else's beside it."""
    path, _ = exported
    model = onnx.load(path)
    onnx.save(model, tmp_path / "decoder.onnx", save_as_external_data=True, location="model.onnx.data")
    (tmp_path / "mine.onnx.data").write_bytes(b"mine")
    return tmp_path / "decoder.onnx"


@pytest.mark.parametrize("name", ["model.onnx", "mine.onnx", "decoder.onnx"])
def test_weights_at_the_target_s_place_are_asked_about_like_the_target(shared, name):
    before = contents(shared.parent)
    with pytest.raises(UsageError, match=r"exists already"):
        rewrite_graph(shared, shared.with_name(name), "tables", max_position=LENGTH)
    assert contents(shared.parent) == before


@pytest.mark.parametrize("name", ["model.onnx", "mine.onnx"])
def test_with_force_the_source_keeps_its_weights_and_so_does_everybody_else(shared, exported, name):
    before, call = contents(shared.parent), exported[1]
    written = rewrite_graph(shared, shared.with_name(name), "tables", max_position=LENGTH, force=True)
    after = contents(shared.parent)
    assert {key: after[key] for key in before} == before
    assert after.keys() - before.keys() == {name, *written.summary.weights}
    for path in (shared, written.path):
        np.testing.assert_allclose(answer(path, call.feeds), call.logits, atol=1e-4)


def test_in_its_own_place_a_file_keeps_weights_that_another_one_reads(shared, exported):
    (shared.parent / "twin.onnx").write_bytes(shared.read_bytes())
    call = exported[1]
    rewrite_graph(shared, shared, "tables", max_position=LENGTH, force=True)
    for path in (shared, shared.with_name("twin.onnx")):
        np.testing.assert_allclose(answer(path, call.feeds), call.logits, atol=1e-4)


def test_weights_that_only_the_old_file_named_go_with_it(exported, tmp_path):
    model = onnx.load(exported[0])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data")
    written = rewrite_graph(tmp_path / "m.onnx", tmp_path / "m.onnx", "tables", max_position=LENGTH, force=True)
    assert contents(tmp_path).keys() == {"m.onnx", *written.summary.weights}
    again = rewrite_graph(written.path, written.path, "onnx", force=True)
    assert contents(tmp_path).keys() == {"m.onnx", *again.summary.weights}


def test_a_link_is_replaced_and_what_it_leads_to_stays(exported, tmp_path):
    """As Hugging Face's cache keeps files."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    model = onnx.load(exported[0])
    onnx.save(model, tmp_path / "blobs" / "m.onnx", save_as_external_data=True, location="m.onnx.data")
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / "snapshot" / name).symlink_to(Path("..") / "blobs" / name)
    before = contents(tmp_path / "blobs")
    target = tmp_path / "snapshot" / "m.onnx"
    written = rewrite_graph(tmp_path / "blobs" / "m.onnx", target, "tables", max_position=LENGTH, force=True)
    assert contents(tmp_path / "blobs") == before
    assert not target.is_symlink() and contents(target.parent).keys() == {"m.onnx", *written.summary.weights}


def test_a_file_that_before_refuses_does_not_appear(exported, tmp_path):
    def refuse(unfinished: Path) -> None:
        assert onnx.load(unfinished).graph.node, "whole, with its weights"
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        rewrite_graph(exported[0], tmp_path / "new.onnx", "tables", max_position=LENGTH, before=refuse)
    assert contents(tmp_path) == {}


def as_file(model: ir.Model, folder: Path) -> Path:
    ir.save(with_tokens(model), folder / "in.onnx")
    return folder / "in.onnx"


def rewritten(body: str, folder: Path, **settings) -> Rewritten:
    return rewrite_graph(as_file(graph(body, **settings), folder), folder / "out.onnx", "tables", max_position=ROWS)


FORMS = {
    "four axes": "y = RotaryEmbedding (x, cos_cache, sin_cache, position_ids)",
    "three axes": "m = Transpose <perm = [0, 2, 1, 3]> (x)\n flat_x = Reshape(m, merged)\n"
    "z = RotaryEmbedding <num_heads = 2> (flat_x, cos_cache, sin_cache, position_ids)\n"
    "apart = Reshape(z, split)\n y = Transpose <perm = [0, 2, 1, 3]> (apart)",
    "ready made": "y = RotaryEmbedding (x, cos, sin)",
    "onnx runtime": "y = com.microsoft.RotaryEmbedding (x, position_ids, cos_cache, sin_cache)",
}


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_operator_is_taken_apart(form, interleaved, tmp_path):
    attribute = f"<interleaved = {interleaved}"
    body = FORMS[form].replace("<num_heads", f"{attribute}, num_heads")
    body = body if attribute in body else body.replace("RotaryEmbedding (", f"RotaryEmbedding {attribute}> (")
    caches = (
        "every = Range(i0, rows, i1)\n every32 = Cast <to = 1> (every)\n e1 = Unsqueeze(every32, last)\n"
        "all_angles = Mul(e1, inv_freq)\n cos_cache = Cos(all_angles)\n sin_cache = Sin(all_angles)\n"
    )
    model = graph(
        caches + body,
        opset=23,
        constants=f", int64 rows = {{{ROWS}}}, int64[3] merged = {{0, 0, 16}}, int64[4] split = {{0, 0, 2, 8}}",
    )
    feeds = activation(model, POSITIONS)
    written = rewrite_graph(as_file(model, tmp_path), tmp_path / "out.onnx", "tables", max_position=ROWS)
    assert "RotaryEmbedding" not in operators(written.path)
    got = answer(written.path, {**feeds, "input_ids": np.zeros(POSITIONS.shape, np.int64)})
    right, wrong = (
        oracle(feeds["x"], POSITIONS, interleaved=layout, rotary_dim=8)
        for layout in (bool(interleaved), not interleaved)
    )
    np.testing.assert_allclose(got, right, atol=1e-5)
    assert np.abs(got - wrong).max() > 0.1


def test_a_table_in_the_file_cannot_be_made_longer(exported, tmp_path):
    first = rewrite_graph(exported[0], tmp_path / "first.onnx", "onnx", max_position=LENGTH)
    with pytest.raises(UsageError, match=f"has a table of {LENGTH} positions; {LENGTH + 1} were asked for"):
        rewrite_graph(first.path, tmp_path / "longer.onnx", "tables", max_position=LENGTH + 1)
    shorter = rewrite_graph(first.path, tmp_path / "shorter.onnx", "tables", max_position=LENGTH - 1)
    assert len(shorter.rotations[0].table.cos) == LENGTH - 1


def test_angles_computed_at_run_time_need_a_length(exported, tmp_path):
    with pytest.raises(UsageError, match="how long should its tables be") as caught:
        rewrite_graph(exported[0], tmp_path / "new.onnx", "tables")
    assert "--max-position" in caught.value.todo
    stated = rewrite_graph(exported[0], tmp_path / "new.onnx", "tables", stated_position=20)
    assert len(stated.rotations[0].table.cos) == 20


def damaged(change, exported, folder: Path) -> Path:
    model = onnx.load(exported[0])
    change(model)
    onnx.save(model, folder / "bad.onnx")
    return folder / "bad.onnx"


def no_positions(model: onnx.ModelProto) -> None:
    next(value for value in model.graph.input if value.name == "position_ids").name = "positions"
    for node in model.graph.node:
        node.input[:] = ["positions" if name == "position_ids" else name for name in node.input]


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 14
    del model.graph.node[:], model.graph.output[1:], model.graph.value_info[:]
    result, tokens = model.graph.output[0], model.graph.input[0]
    result.CopyFrom(onnx.helper.make_tensor_value_info("ids", tokens.type.tensor_type.elem_type, None))
    model.graph.node.append(onnx.helper.make_node("Identity", [tokens.name], ["ids"]))


def fused(model: onnx.ModelProto) -> None:
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    model.graph.node.append(
        onnx.helper.make_node("GroupQueryAttention", ["input_ids"], ["fused"], domain="com.microsoft", do_rotary=1)
    )


def branched(model: onnx.ModelProto) -> None:
    body = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["input_ids"], ["b"])], "b", [], [])
    body.output.append(onnx.ValueInfoProto(name="b"))
    node = onnx.helper.make_node("If", ["which"], ["branched"], then_branch=body, else_branch=body)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "which"))
    model.graph.node.append(node)


REFUSED = {
    "no position_ids": (no_positions, UnmatchedRotation, "has no input position_ids"),
    "a fixed axis": (fixed_batch, UsageError, "input_ids has a fixed axis"),
    "an old opset": (old, UsageError, "is written in opset 14"),
    "a fused attention": (fused, UnmatchedRotation, "rotates inside a fused attention"),
    "a branch": (branched, UsageError, "has subgraphs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_understood_is_refused_and_nothing_is_written(case, exported, tmp_path):
    change, error, reason = REFUSED[case]
    path = damaged(change, exported, tmp_path)
    with pytest.raises(error, match=reason):
        rewrite_graph(path, tmp_path / "out" / "new.onnx", "tables", max_position=LENGTH)
    assert not (tmp_path / "out").exists()


def test_a_rotation_that_is_not_understood_is_refused_unless_allowed(tmp_path):
    body = "c = Unsqueeze(cos, heads_axis)\n cc = Concat <axis = -1> (c, c)\n y = Mul(x, cc)"
    with pytest.raises(UnmatchedRotation, match="not part of a sum of two products"):
        rewritten(body, tmp_path)
    path = as_file(graph(body), tmp_path)
    left = rewrite_graph(path, tmp_path / "left.onnx", "tables", max_position=ROWS, allow_unmatched=True)
    assert len(left.unmatched) == 1


def test_files_that_are_missing_or_no_onnx_or_without_weights_are_refused(exported, tmp_path):
    with pytest.raises(UsageError, match="There is no file"):
        rewrite_graph(tmp_path / "none.onnx", tmp_path / "new.onnx", "tables")
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(UsageError, match="is not an ONNX file"):
        rewrite_graph(tmp_path / "text.onnx", tmp_path / "new.onnx", "tables")
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(exported[0].read_bytes())
    with pytest.raises(UsageError, match="which is not beside it"):
        rewrite_graph(alone, tmp_path / "new.onnx", "tables")


def test_an_existing_target_is_kept(exported, tmp_path):
    (tmp_path / "new.onnx").write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        rewrite_graph(exported[0], tmp_path / "new.onnx", "tables", max_position=LENGTH)
    assert (tmp_path / "new.onnx").read_text() == "precious"


def test_an_opset_that_is_asked_for_is_kept(tmp_path):
    model = rotation_graph("rotate_half", opset=17)
    written = rewrite_graph(as_file(model, tmp_path), tmp_path / "out.onnx", "tables", max_position=ROWS, opset=17)
    assert ir.load(written.path).graph.opset_imports[""] == 17
