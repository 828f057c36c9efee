"""Feeds made from declarations alone: the inputs of Optimum, of transformers.js, of ONNX Runtime's own exporter."""

import numpy as np
import pytest

from rope_deploy.graph.reading.declared_inputs import Input
from rope_deploy.runs.trial_calls import Sizes, feeds, trial_calls

B, S = "batch_size", "sequence_length"
PAST = "past_key_values.0.key"
STEP = Sizes(batch=2, past=4, sequence=1)


def fed(*inputs: Input, sizes: Sizes = STEP) -> dict[str, np.ndarray]:
    return feeds(inputs, sizes)


def test_a_decoder_of_optimum():
    found = fed(
        Input("input_ids", "int64", (B, S), below=5),
        Input("attention_mask", "int64", (B, "past_sequence_length + 1")),
        Input("position_ids", "int64", (B, S)),
        Input(PAST, "float32", (B, 3, "past_sequence_length", 8)),
    )
    assert {name: value.shape for name, value in found.items()} == {
        "input_ids": (2, 1),
        "attention_mask": (2, 5),
        "position_ids": (2, 1),
        PAST: (2, 3, 4, 8),
    }
    assert found["input_ids"].max() < 5
    assert (found["attention_mask"] == 1).all()
    assert (found["position_ids"] == 4).all(), "tokens count on from the past"
    assert np.abs(found[PAST]).max() > 0


def test_names_that_say_nothing_are_known_from_where_else_they_stand():
    found = fed(Input("input_ids", "int64", ("N", "T")), Input("extra", "float32", ("T", "N", 3)))
    assert found["extra"].shape == (1, 2, 3)


def test_a_past_in_another_order_and_without_names():
    found = fed(Input("input_ids", "int64", (None, None)), Input("past_0", "float16", ("b", "past_len", 2, 8)))
    assert found["input_ids"].shape == (2, 1)
    assert found["past_0"].shape[1:] == (4, 2, 8)


OTHERS = [
    (Input("token_type_ids", "int64", (B, S)), lambda v: v.shape == (2, 1) and not v.any()),
    (Input("cache_position", "int64", (S,)), lambda v: v.tolist() == [4]),
    (Input("use_cache_branch", "bool", (1,)), lambda v: v.tolist() == [True]),
    (Input("num_logits_to_keep", "int64", ()), lambda v: v == 1),
    (Input("seqlens_k", "int32", (B,)), lambda v: v.tolist() == [4, 4] and v.dtype == np.int32),
    (Input("total_sequence_length", "int32", ()), lambda v: v == 5),
    (Input("past_sequence_length", "int32", (1,)), lambda v: v == 4),
    (Input("attention_mask", "float32", (B, 1, S, "total")), lambda v: v.shape == (2, 1, 1, 5) and not v.any()),
    (Input("attention_mask", "bool", (B, "total")), lambda v: v.shape == (2, 5) and v.all()),
    (Input("inputs_embeds", "float32", (B, S, 16)), lambda v: v.shape == (2, 1, 16) and v.any()),
    (Input("position_ids", "int64", (3, B, S)), lambda v: v.shape == (3, 2, 1) and (v == 4).all()),
    (Input("position_ids", "int32", (1, S)), lambda v: v.tolist() == [[4]]),
]


@pytest.mark.parametrize(("declared", "right"), OTHERS, ids=[f"{o[0].name}{list(o[0].shape)}" for o in OTHERS])
def test_inputs_that_are_not_ours(declared, right):
    assert right(fed(declared)[declared.name])


def test_without_a_past_the_cache_branch_is_not_taken():
    assert not fed(Input("use_cache_branch", "bool", (1,)), sizes=Sizes(2, 0, 3))["use_cache_branch"].any()


def test_a_decoder_has_four_calls_and_an_encoder_two():
    ids, past = Input("input_ids", "int64", (B, S)), Input(PAST, "float32", (B, 3, "past", 8))
    places = Input("position_ids", "int64", (B, S))
    calls = trial_calls([ids, places, past], 100, batch=2, far=True)
    assert [call.feeds[PAST].shape[2] for call in calls] == [0, 4, 4, 4]
    assert calls[-1].feeds["position_ids"].max() == 99
    assert len(trial_calls([ids, places], 100, batch=2, far=True)) == 2
    assert len(trial_calls([ids, places], 100, batch=2, far=False)) == 1


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_no_call_leaves_a_short_table(rows):
    inputs = [Input("position_ids", "int64", (B, S)), Input(PAST, "float32", (B, 3, "past", 8))]
    for call in trial_calls(inputs, rows, batch=1, far=True):
        assert call.feeds["position_ids"].max() < rows


def test_values_are_always_the_same():
    one, other = (fed(Input("x", "float32", (B, S, 4))) for _ in range(2))
    np.testing.assert_array_equal(one["x"], other["x"])
