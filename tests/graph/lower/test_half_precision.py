"""Half precision: rotated values lie no further from the fp64 rotation than PyTorch's own in the same type."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as apply_interleaved
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as apply_half_split

from rope_deploy.export import prepare
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.markers import Raised
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.models import run_reference, wrap
from rope_deploy.models.torch_trig import cos, sin
from tests import tiny
from tests.graph.graphs import NUMPY_TYPES, activation, frequencies, oracle, rotation_graph, run, run_slowly

ROWS, HEAD = 2048, 64
LAYOUT = {False: "rotate_half", True: "stack_and_flatten"}


def in_pytorch(x: np.ndarray, positions: np.ndarray, dtype: str, *, interleaved: bool) -> np.ndarray:
    """What transformers computes for x [B, N, S, H], in fp32 holding values of `dtype`."""
    half = getattr(torch, dtype)
    tensor = torch.from_numpy(x.astype(np.float32)).to(half)
    angle = torch.from_numpy(positions).float()[..., None] * torch.from_numpy(frequencies(HEAD))
    c, s = angle.cos().to(half), angle.sin().to(half)
    if interleaved:  # GPT-J takes [B, S, N, H] and repeats the halves itself
        rotated = apply_interleaved(tensor.transpose(1, 2), s, c).transpose(1, 2)
    else:
        rotated, _ = apply_half_split(tensor, tensor, torch.cat((c, c), -1), torch.cat((s, s), -1))
    return rotated.float().numpy()


@pytest.mark.parametrize("interleaved", [False, True], ids=["half_split", "interleaved"])
@pytest.mark.parametrize(
    ("dtype", "style"),
    [("float16", style) for style in ("tables", "onnx", "contrib", "plugin")]
    + [("bfloat16", style) for style in ("tables", "onnx", "plugin")],
)
def test_no_further_from_fp64_than_pytorch(dtype, style, interleaved):
    model = rotation_graph(LAYOUT[interleaved], head_dim=HEAD, dtype=dtype)
    positions = np.random.default_rng(1).integers(0, ROWS, (4, 32))
    feeds = activation(model, positions)
    raised = raise_rotations(model, ROWS, cos=cos, sin=sin)
    lowered = lower_rotations(raised, style)
    runner = run if dtype == "float16" else run_slowly
    ours = runner(lowered.model, feeds)["y"].astype(np.float64)
    theirs = in_pytorch(feeds["x"], positions, dtype, interleaved=interleaved)
    exact = oracle(feeds["x"], positions, interleaved=interleaved, rotary_dim=HEAD)
    error, allowed = np.abs(ours - exact), np.abs(theirs - exact)
    assert error.max() <= allowed.max()
    assert error.mean() <= allowed.mean() * 1.001

    careless = lower_rotations(_angles_in(dtype, raised), style)
    worse = runner(careless.model, feeds)["y"].astype(np.float64)
    assert np.abs(worse - exact).max() > 2 * allowed.max(), "angles computed in the half type would be seen"


def _angles_in(dtype: str, raised: Raised) -> Raised:
    """The fault of careless exports: positions and frequencies multiplied in the half type."""
    half = NUMPY_TYPES[dtype]
    angle = np.arange(ROWS).astype(half)[:, None] * frequencies(HEAD).astype(half)
    (rotation,) = raised.rotations
    table = replace(rotation.table, cos=np.cos(angle).astype(half), sin=np.sin(angle).astype(half))
    return replace(raised, rotations=(replace(rotation, table=table),))


@cache
def prepared(dtype: str):
    """A tiny model whose weights are of `dtype`, as transformers loads them: the frequencies stay in fp32."""
    model = tiny.build("llama", num_hidden_layers=1)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
    return prepare(wrap(model, tiny.plain_config(model), source="tiny-llama", dtype=dtype))


@pytest.mark.parametrize(
    ("dtype", "style"),
    [("float16", style) for style in ("tables", "onnx", "contrib", "plugin")]
    + [("bfloat16", style) for style in ("tables", "onnx", "plugin")],
)
def test_whole_models_answer_as_pytorch_does_in_the_same_type(dtype, style):
    made = prepared(dtype)
    (rotation,) = made.raised.rotations
    assert rotation.table.cos.dtype == NUMPY_TYPES[dtype], "rounded once, to the type that it is multiplied with"
    feeds = {
        "input_ids": np.random.default_rng(0).integers(3, tiny.VOCAB, (2, 9)),
        "attention_mask": np.ones((2, 9), np.int64),
        "position_ids": np.tile(np.arange(9), (2, 1)),
        **{f"past_key_values.0.{what}": np.zeros((2, 2, 0, 16), NUMPY_TYPES[dtype]) for what in ("key", "value")},
    }
    runner = run if dtype == "float16" else run_slowly
    got = runner(lower_rotations(made.raised, style).model, feeds)["logits"].astype(np.float32)
    theirs = {name: array.astype(np.float32) if "past" in name else array for name, array in feeds.items()}
    expected = run_reference(made.loaded, theirs)["logits"]
    strided = run_reference(made.loaded, {**theirs, "position_ids": feeds["position_ids"] * 3})["logits"]
    tolerance = {"float16": 2e-2, "bfloat16": 1.5e-1}[dtype]
    assert np.abs(got - expected).max() < tolerance
    assert np.abs(got - strided).max() > 2 * tolerance, "other positions would be seen"
