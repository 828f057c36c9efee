"""Raising: every form of a rotation becomes one marker; what is no rotation gets a reason."""

import re

import numpy as np
import pytest

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from tests.graph.graphs import (
    DOUBLED,
    EVENS_AND_ODDS,
    FORMS,
    HALF_WIDTH,
    HALVES,
    MULTIPLY_ADD,
    POSITIONS,
    ROWS,
    STACKED_PAIR,
    TWO_SUMS,
    activation,
    graph,
    oracle,
    rotation_graph,
    run,
)

ROTATE_HALF = HALVES + "n = Neg(x2)\n r = Concat <axis = -1> (n, x1)"
WHOLE = "t = Identity(x)\n"
END = "\n y = Identity(rotated)"


@pytest.mark.parametrize("heads_axis", [1, 2], ids=["BNSH", "BSNH"])
@pytest.mark.parametrize("rotary_dim", [8, 4], ids=["full", "partial"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_rotation(name, rotary_dim, heads_axis):
    model = rotation_graph(name, rotary_dim=rotary_dim, heads_axis=heads_axis)
    feeds = activation(model, POSITIONS)
    before = run(model, feeds)["y"]
    raised = raise_rotations(model, ROWS)
    (rotation,) = raised.rotations
    (marker,) = raised.markers()
    assert rotation.interleaved is FORMS[name][0]
    assert (rotation.head_dim, rotation.rotary_dim) == (8, rotary_dim)
    assert marker.attributes["heads_axis"].value == heads_axis
    assert marker.attributes["num_heads"].value == 2
    assert {node.op_type for node in raised.model.graph} <= {"Rope", "Identity"}, "nothing of the fragment is left"
    assert [value.name for value in raised.model.graph.outputs] == ["y"]
    after = run(lower_rotations(raised, "tables").model, feeds)["y"]
    np.testing.assert_allclose(after, before, atol=1e-6)
    expected = oracle(
        feeds["x"], POSITIONS, interleaved=rotation.interleaved, rotary_dim=rotary_dim, heads_axis=heads_axis
    )
    np.testing.assert_allclose(after, expected, atol=1e-6)
    wrong = oracle(
        feeds["x"], POSITIONS, interleaved=not rotation.interleaved, rotary_dim=rotary_dim, heads_axis=heads_axis
    )
    assert np.abs(after - wrong).max() > 0.1, "the comparison can tell the layouts apart"


def test_a_rotation_backwards_is_found_with_the_sine_negated():
    body = WHOLE + DOUBLED + HALVES + "n = Neg(x1)\n r = Concat <axis = -1> (x2, n)" + MULTIPLY_ADD + END
    (backwards,) = raise_rotations(graph(body), ROWS).rotations
    (forwards,) = raise_rotations(rotation_graph("rotate_half"), ROWS).rotations
    np.testing.assert_array_equal(backwards.table.sin, -forwards.table.sin)
    np.testing.assert_array_equal(backwards.table.cos, forwards.table.cos)


def test_a_scaled_table_keeps_its_scale():
    angles = graph.__kwdefaults__["angles"].replace("Cos(angle)", "Mul(raw, scale)").replace(
        "cos32 =", "raw = Cos(angle)\n  cos32 ="
    )  # fmt: skip
    model = graph(WHOLE + DOUBLED + ROTATE_HALF + MULTIPLY_ADD + END, angles=angles, constants=", float scale = {1.5}")
    (scaled,) = raise_rotations(model, ROWS).rotations
    (plain,) = raise_rotations(rotation_graph("rotate_half"), ROWS).rotations
    np.testing.assert_array_equal(scaled.table.cos, plain.table.cos * np.float32(1.5))


REFUSED = {
    "pairs swapped without a negation change sign": (
        HALVES + "r = Concat <axis = -1> (x2, x1)" + MULTIPLY_ADD + END,
        "the two elements of a pair are multiplied by different sines",
    ),
    "halves not exchanged": (
        HALVES + "n = Neg(x1)\n r = Concat <axis = -1> (n, x2)" + MULTIPLY_ADD + END,
        "an element is not a sum of itself and one partner",
    ),
    "pairs of no known layout": (
        "r = Gather <axis = -1> (t, reversed)" + MULTIPLY_ADD + END,
        "its pairs are neither half-split nor interleaved",
    ),
    "heads mixed": (
        "q = Gather <axis = 1> (t, exchange)\n" + ROTATE_HALF.replace("(t,", "(q,") + MULTIPLY_ADD + END,
        "it moves elements between tokens or heads",
    ),
    "rotated element not in front": (
        "front = Slice(x, zero, half, last)\n back = Slice(x, half, end, last)\n"
        "f1 = Slice(back, zero, two, last)\n f2 = Slice(back, two, end, last)\n"
        "c2 = Slice(cos, zero, two, last)\n s2 = Slice(sin, zero, two, last)\n"
        "cc = Unsqueeze(c2, heads_axis)\n ss = Unsqueeze(s2, heads_axis)\n"
        + TWO_SUMS.replace("(x1,", "(f1,").replace("(x2,", "(f2,").replace(", c)", ", cc)").replace(", s)", ", ss)")
        + "y = Concat <axis = -1> (front, y1, y2)",
        "the rotated elements are not an even prefix of the head",
    ),
    "two tensors": (
        ROTATE_HALF.replace("(t,", "(other,") + MULTIPLY_ADD + END,
        "its two products do not rotate one common tensor",
    ),
    "no sum": ("rotated = Mul(t, c)" + END, "it is not part of a sum of two products"),
    "table of heads": (
        ROTATE_HALF + "many = Expand(c, per_head)\n uneven = Mul(many, of_heads)\n"
        "straight = Mul(t, uneven)\n crossed = Mul(r, s)\n rotated = Add(straight, crossed)" + END,
        "its table differs between heads",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_rotation_is_refused_with_the_node_and_the_reason(case):
    body, reason = REFUSED[case]
    constants = (
        ", int64[8] reversed = {7, 6, 5, 4, 3, 2, 1, 0}, int64[4] per_head = {1, 2, 1, 1}, "
        "float[1,2,1,1] of_heads = {1.0, 2.0}"
    )
    source = "t = Identity(x)\n other = Exp(x)\n" + DOUBLED + body
    with pytest.raises(UnmatchedRotation, match=reason) as caught:
        raise_rotations(graph(source, constants=constants), ROWS)
    assert "(Mul): " in str(caught.value), "names the node"
    left = raise_rotations(graph(source, constants=constants), ROWS, allow_unmatched=True)
    assert left.unmatched and reason in left.unmatched[0]
    assert left.rotations == ()


def test_a_table_that_differs_within_a_pair_is_refused():
    body = WHOLE + DOUBLED.replace("(cos, cos)", "(cos, sin)") + ROTATE_HALF + MULTIPLY_ADD + END
    with pytest.raises(UnmatchedRotation, match="different cosines"):
        raise_rotations(graph(body), ROWS)


def test_a_table_that_reads_other_tokens_positions_is_refused():
    angles = graph.__kwdefaults__["angles"].replace("Cast <to = 1> (position_ids)", "Cast <to = 1> (reversed_ids)")
    backwards = "reversed_ids = Slice(position_ids, last, minus_end, one, last)\n"
    body = WHOLE + DOUBLED + ROTATE_HALF + MULTIPLY_ADD + END
    constants = ", int64[1] minus_end = {-9223372036854775807}"
    with pytest.raises(UnmatchedRotation, match="does not follow from each token's own position"):
        raise_rotations(graph(body, angles=backwards + angles, constants=constants), ROWS)


def test_a_table_for_the_first_row_of_a_batch_is_refused():
    angles = graph.__kwdefaults__["angles"].replace("Cast <to = 1> (position_ids)", "Cast <to = 1> (first_row)")
    first = "first_row = Slice(position_ids, zero, one, zero)\n"
    body = WHOLE + DOUBLED + ROTATE_HALF + MULTIPLY_ADD + END
    with pytest.raises(UnmatchedRotation, match="does not follow from each token's own position"):
        raise_rotations(graph(body, angles=first + angles), ROWS)


def test_a_second_rotation_that_is_not_understood_fails_the_whole_graph():
    good = WHOLE + DOUBLED + ROTATE_HALF + MULTIPLY_ADD
    bad = "k2 = Mul(rotated, c)\n y = Exp(k2)"
    with pytest.raises(UnmatchedRotation, match="1 node multiplies") as caught:
        raise_rotations(graph(good + bad), ROWS)
    assert "1 rotations were recognised" in caught.value.exists
    assert "--allow-unmatched" in caught.value.todo
    left = raise_rotations(graph(good + bad), ROWS, allow_unmatched=True)
    assert (len(left.rotations), len(left.unmatched)) == (1, 1)


def test_a_graph_without_rotation_is_refused_unless_allowed():
    with pytest.raises(UnmatchedRotation, match="no rotary position embedding"):
        raise_rotations(graph("y = Exp(x)"), ROWS)
    assert raise_rotations(graph("y = Exp(x)"), ROWS, allow_unmatched=True).rotations == ()


def test_scaling_whole_tokens_by_their_position_is_not_a_rotation_missed():
    scaling = "temperature = Unsqueeze(column, heads_axis)\n y = Mul(rotated, temperature)"
    raised = raise_rotations(graph(WHOLE + DOUBLED + ROTATE_HALF + MULTIPLY_ADD + scaling), ROWS)
    assert raised.unmatched == () and len(raised.markers()) == 1


def two_sites() -> str:
    """q from x, k from its first head, and their scores."""
    query = WHOLE + DOUBLED + ROTATE_HALF + MULTIPLY_ADD
    names = set(re.findall(r"(\w+) = [A-Z]", query))
    key = re.sub(r"\w+", lambda word: f"k_{word[0]}" if word[0] in names else word[0], query)
    key = key.replace("Identity(x)", "Slice(x, zero, one, one)")
    return query + "\n" + key + "\n last_k = Transpose <perm = [0, 1, 3, 2]> (k_rotated)\n y = MatMul(rotated, last_k)"


def test_equal_tables_are_one_rotation_with_two_sites_named_query_and_key():
    model = graph(two_sites(), result="batch, 2, sequence, sequence")
    raised = raise_rotations(model, ROWS)
    assert len(raised.rotations) == 1
    assert sorted(node.attributes["role"].value for node in raised.markers()) == ["k", "q"]


def test_the_layer_is_read_from_the_module_path():
    model = rotation_graph("rotate_half")
    adder = next(node for node in model.graph if node.outputs[0].name == "rotated")
    adder.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'model.layers.7.self_attn', 'add']"
    (marker,) = raise_rotations(model, ROWS).markers()
    assert marker.attributes["layer"].value == 7
    model = rotation_graph("rotate_half")
    next(node for node in model.graph if node.outputs[0].name == "rotated").name = "/model/layers.5/self_attn/Add_1"
    (marker,) = raise_rotations(model, ROWS).markers()
    assert marker.attributes["layer"].value == 5


def test_half_width_and_doubled_tables_are_equal():
    (half,) = raise_rotations(
        graph(WHOLE + HALF_WIDTH + HALVES + TWO_SUMS + "y = Concat <axis = -1> (y1, y2)"), ROWS
    ).rotations
    (doubled,) = raise_rotations(rotation_graph("rotate_half"), ROWS).rotations
    np.testing.assert_array_equal(half.table.cos, doubled.table.cos)
    np.testing.assert_array_equal(half.table.sin, doubled.table.sin)


@pytest.mark.parametrize("halves", [False, True], ids=["pairs to halves", "halves to pairs"])
def test_pairs_read_from_one_layout_and_written_in_another(halves):
    """DeepSeek-V3 reads neighbours and writes halves; the input is rearranged and the rest is an ordinary rotation."""
    read, write = (HALVES, STACKED_PAIR.format(first="y1", second="y2", out="rotated")) if halves else (
        EVENS_AND_ODDS,
        "rotated = Concat <axis = -1> (y1, y2)",
    )  # fmt: skip
    model = graph(WHOLE + HALF_WIDTH + read + TWO_SUMS + write + END)
    feeds = activation(model, POSITIONS)
    before = run(model, feeds)["y"]
    raised = raise_rotations(model, ROWS)
    (rotation,) = raised.rotations
    assert rotation.rearranged and rotation.interleaved is halves
    after = run(lower_rotations(raised, "tables").model, feeds)["y"]
    np.testing.assert_allclose(after, before, atol=1e-6)
    order = np.arange(8).reshape(2, 4).T.reshape(-1) if halves else np.arange(8).reshape(4, 2).T.reshape(-1)
    expected = oracle(feeds["x"][..., order], POSITIONS, interleaved=halves, rotary_dim=8)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    plain = oracle(feeds["x"], POSITIONS, interleaved=halves, rotary_dim=8)
    assert np.abs(after - plain).max() > 0.1, "without the rearrangement it is another rotation"
