"""Recurrences give what transformers' chunks give, and what a loop over tokens in float64 gives, for any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor
from transformers.models.bailing_hybrid.modeling_bailing_hybrid import chunk_kimi_delta_attention
from transformers.models.bamba.modeling_bamba import mamba2_chunk_scan
from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

from rope_deploy.graph.passes.sequences import run as run_passes
from rope_deploy.graph.passes.sequences import simplify
from rope_deploy.models.patches.recurrences import gated_average, gated_delta_rule, lightning_attention, mamba2
from rope_deploy.models.tracing.translate import translate

LENGTHS = (1, 2, 3, 63, 64, 65, 130)
NEAR = 1e-5  # of the largest number
BATCH, GROUPS, HEADS, KEY, VALUE = 2, 2, 4, 16, 24


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def delta_inputs(tokens: int, *, groups: int = GROUPS, per_channel: bool = False) -> dict[str, Tensor]:
    decay = (BATCH, tokens, HEADS, KEY) if per_channel else (BATCH, tokens, HEADS)
    return {
        "query": numbers(BATCH, tokens, groups, KEY),
        "key": numbers(BATCH, tokens, groups, KEY, seed=1),
        "value": numbers(BATCH, tokens, HEADS, VALUE),
        "g": -2 * torch.sigmoid(numbers(*decay, seed=2)),
        "beta": torch.sigmoid(numbers(BATCH, tokens, HEADS, seed=3)),
    }


def kimi_inputs(tokens: int) -> dict[str, Tensor]:
    return delta_inputs(tokens, groups=HEADS, per_channel=True)


def mamba_inputs(tokens: int) -> dict[str, Tensor]:
    return {
        "hidden_states": numbers(BATCH, tokens, HEADS, VALUE),
        "dt": numbers(BATCH, tokens, HEADS),
        "A": -torch.exp(numbers(HEADS)),
        "B": numbers(BATCH, tokens, GROUPS, KEY),
        "C": numbers(BATCH, tokens, GROUPS, KEY, seed=1),
        "D": numbers(HEADS, seed=4),
        "dt_bias": numbers(HEADS, seed=5),
    }


DELTA = {"output_final_state": True, "use_qk_l2norm_in_kernel": True}
MAMBA = {"return_final_states": True, "dt_softplus": True}


def delta_loop(
    query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The gated delta rule as it is written in the paper, a token and a head at a time, in the type of its inputs."""
    query, key = (x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (query, key))
    heads, out = value.shape[2], torch.zeros_like(value)
    state = value.new_zeros(value.shape[0], heads, key.shape[-1], value.shape[-1])
    state = state if initial_state is None else initial_state.clone()
    for t in range(value.shape[1]):
        for n in range(heads):
            k, q = (x[:, t, n * x.shape[2] // heads] for x in (key, query))
            decay = g[:, t, n].exp()
            kept = state[:, n] * (decay[:, :, None] if decay.ndim == 2 else decay[:, None, None])
            error = value[:, t, n] - torch.einsum("bk,bkv->bv", k, kept)
            state[:, n] = kept + torch.einsum("bk,bv->bkv", k, beta[:, t, n, None] * error)
            out[:, t, n] = torch.einsum("bk,bkv->bv", q, state[:, n]) / key.shape[-1] ** 0.5
    return out, state


def mamba_loop(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    initial_states: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The state space recurrence, a token and a head at a time, in the type of its inputs."""
    heads, out = hidden_states.shape[2], torch.zeros_like(hidden_states)
    dt = torch.log1p(torch.exp(dt + dt_bias))
    state = hidden_states.new_zeros(hidden_states.shape[0], heads, hidden_states.shape[-1], B.shape[-1])
    state = state if initial_states is None else initial_states.clone()
    for t in range(hidden_states.shape[1]):
        for n in range(heads):
            b, c = (x[:, t, n * x.shape[2] // heads] for x in (B, C))
            x, step = hidden_states[:, t, n], dt[:, t, n, None]
            state[:, n] = state[:, n] * torch.exp(A[n] * step)[..., None] + (x * step)[..., None] * b[:, None, :]
            out[:, t, n] = torch.einsum("bvk,bk->bv", state[:, n], c) + D[n] * x
    return out, state


@dataclass(frozen=True)
class Kind:
    """A recurrence of ours, the chunks of transformers, the loop, and what they are given."""

    ours: Callable
    chunks: Callable
    loop: Callable
    inputs: Callable[[int], dict[str, Tensor]]
    options: dict[str, bool]
    start: str
    shape: tuple[int, ...]


KINDS: Mapping[str, Kind] = {
    "gated delta rule": Kind(
        gated_delta_rule, torch_chunk_gated_delta_rule, delta_loop, delta_inputs, DELTA,
        start="initial_state", shape=(BATCH, HEADS, KEY, VALUE),
    ),
    "kimi delta attention": Kind(
        gated_delta_rule, chunk_kimi_delta_attention, delta_loop, kimi_inputs, DELTA,
        start="initial_state", shape=(BATCH, HEADS, KEY, VALUE),
    ),
    "mamba2": Kind(
        mamba2, mamba2_chunk_scan, mamba_loop, mamba_inputs, MAMBA,
        start="initial_states", shape=(BATCH, HEADS, VALUE, KEY),
    ),
}  # fmt: skip


def off(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> float:
    """The largest difference of output and state, of the largest number there should be."""
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True))


def both(kind: str, tokens: int, continued: bool) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], dict]:
    """What we give and what the loop gives in float64, and what both were given."""
    one = KINDS[kind]
    given = one.inputs(tokens) | ({one.start: numbers(*one.shape, seed=6)} if continued else {})
    with torch.no_grad():
        got = one.ours(**given, **one.options)
    return got, one.loop(**{name: tensor.double() for name, tensor in given.items()}), given


@pytest.mark.parametrize("continued", [False, True], ids=["first", "continued"])
@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_recurrences_are_the_loop_over_tokens(kind, tokens, continued):
    got, want, _ = both(kind, tokens, continued)
    assert off(got, want) < NEAR


@pytest.mark.parametrize("continued", [False, True], ids=["first", "continued"])
@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_recurrences_are_as_near_to_the_loop_as_the_chunks_of_transformers(kind, tokens, continued):
    got, want, given = both(kind, tokens, continued)
    with torch.no_grad():
        theirs = KINDS[kind].chunks(**given, **KINDS[kind].options, chunk_size=64)
    assert off(got, tuple(x.double() for x in theirs)) < NEAR
    assert off(got, want) < 2 * off(theirs, want) + 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["a token", "the state", "order"])
def test_the_comparison_sees_a_fault(kind, fault):
    one = KINDS[kind]
    _, want, given = both(kind, 65, True)
    if fault == "the state":
        given[one.start] = given[one.start].transpose(-1, -2).reshape(one.shape)
    else:
        first = next(iter(given))
        given[first] = given[first].clone()
        given[first][:, 30:32] = given[first][:, 30:31] if fault == "a token" else given[first][:, 30:32].flip(1)
    with torch.no_grad():
        assert off(one.ours(**given, **one.options), want) > 100 * NEAR


@pytest.mark.parametrize("kind", KINDS)
def test_in_two_calls_it_is_the_same_as_in_one(kind):
    one = KINDS[kind]
    given = one.inputs(65)
    with torch.no_grad():
        out, state = one.ours(**given, **one.options)
        rows = {key for key, tensor in given.items() if tensor.ndim > 1}
        cut = [{k: t[:, part] if k in rows else t for k, t in given.items()} for part in (slice(40), slice(40, None))]
        first, between = one.ours(**cut[0], **one.options)
        second, after = one.ours(**cut[1], **{one.start: between}, **one.options)
    assert off((torch.cat([first, second], dim=1), after), (out.double(), state.double())) < NEAR


def test_without_a_final_state_none_is_given():
    with torch.no_grad():
        assert gated_delta_rule(**delta_inputs(3))[1] is None
        assert isinstance(mamba2(**mamba_inputs(3)), Tensor)


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("continued", [False, True], ids=["first", "continued"])
def test_a_limited_step_is_not_limited_for_one_token_that_continues(tokens, continued):
    """transformers' function for a single token has no limits; so says the reference implementation's kernel."""
    given = mamba_inputs(tokens) | {"dt": torch.full((BATCH, tokens, HEADS), -9.0), "dt_bias": torch.zeros(HEADS)}
    start = numbers(BATCH, HEADS, VALUE, KEY) if continued else torch.zeros(BATCH, HEADS, VALUE, KEY)
    with torch.no_grad():
        free, _ = mamba2(**given, **MAMBA, initial_states=start)
        limited, _ = mamba2(**given, **MAMBA, initial_states=start, dt_limit=(0.5, float("inf")))
    assert torch.equal(free, limited) == (continued and tokens == 1)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_lightning_attention_is_attention_that_decays(tokens):
    """Token t reads token s with weight e^(-slope (t - s)), and what came before with e^(-slope (t + 1))."""
    query, key = numbers(BATCH, tokens, HEADS, KEY).double(), numbers(BATCH, tokens, HEADS, KEY, seed=1).double()
    value, slope = numbers(BATCH, tokens, HEADS, VALUE).double(), torch.rand(HEADS, 1, 1).double()
    before = numbers(BATCH, HEADS, KEY, VALUE).double()
    at = torch.arange(tokens)
    age = (at[:, None] - at[None, :]).clamp(min=0).double()
    weight = torch.exp(-slope * age) * (at[:, None] >= at[None, :])
    want = torch.einsum("btnk,bsnk,nts,bsnv->btnv", query, key, weight, value)
    want += torch.einsum("btnk,bnkv,nt->btnv", query, before, torch.exp(-slope[:, 0] * (at + 1)))
    with torch.no_grad():
        got, _ = lightning_attention(*(x.float() for x in (query, key, value, slope, before)))
        wrong, _ = lightning_attention(*(x.float() for x in (query, key, value, slope * 1.01, before)))
    assert float((got - want).abs().max() / want.abs().max()) < NEAR
    assert float((wrong - want).abs().max() / want.abs().max()) > 100 * NEAR


@pytest.mark.parametrize("tokens", LENGTHS)
def test_a_gated_average_weighs_what_came_before(tokens):
    x, gate, before = numbers(BATCH, tokens, 8), torch.rand(BATCH, tokens, 8), numbers(BATCH, 8)
    want, state = [], before.double()
    for t in range(tokens):
        state = state * gate[:, t].double() + x[:, t].double()
        want.append(state)
    with torch.no_grad():
        got, after = gated_average(x, gate, before)
        wrong, _ = gated_average(x, gate, None)
    expected = torch.stack(want, dim=1)
    assert off((got, after), (expected, state)) < NEAR
    assert float((wrong - expected).abs().max()) > 1e-3


class Layer(torch.nn.Module):
    """A recurrence with flat inputs, as a graph has them."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, *given):
        return self.function(*given)


def _delta(query, key, value, g, beta, state):
    return gated_delta_rule(query, key, value, g, beta, initial_state=state, **DELTA)


def _mamba(x, dt, b, c, state):
    return mamba2(x, dt, -torch.arange(1.0, HEADS + 1), b, c, initial_states=state, **MAMBA)


def _rows(inputs: dict[str, Tensor], *state: int) -> tuple[Tensor, ...]:
    return (*(tensor for tensor in inputs.values() if tensor.ndim > 1), numbers(*state, seed=6))


# What is traced, and what it is given for a number of tokens; the state comes last.
TRACED: Mapping[str, tuple[Callable, Callable[[int], tuple[Tensor, ...]]]] = {
    "gated delta rule": (_delta, lambda tokens: _rows(delta_inputs(tokens), BATCH, HEADS, KEY, VALUE)),
    "kimi delta attention": (_delta, lambda tokens: _rows(kimi_inputs(tokens), BATCH, HEADS, KEY, VALUE)),
    "mamba2": (_mamba, lambda tokens: _rows(mamba_inputs(tokens), BATCH, HEADS, VALUE, KEY)),
    "lightning attention": (
        lambda q, k, v, state: lightning_attention(q, k, v, torch.linspace(0.1, 1, HEADS)[:, None, None], state),
        lambda tokens: (*(numbers(BATCH, tokens, HEADS, KEY, seed=seed) for seed in range(3)),
                        numbers(BATCH, HEADS, KEY, KEY)),
    ),
    "gated average": (
        gated_average,
        lambda tokens: (numbers(BATCH, tokens, 8), torch.sigmoid(numbers(BATCH, tokens, 8)), numbers(BATCH, 8)),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=TRACED)
def graph(request) -> tuple[str, bytes]:
    """A recurrence traced with three tokens, and cleaned as every graph is."""
    function, given = TRACED[request.param]
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    *rows, _ = example = given(3)
    axes = ((*({0: batch, 1: tokens} for _ in rows), {0: batch}),)
    with torch.no_grad():
        program = torch.export.export(Layer(function).eval(), example, dynamic_shapes=axes, strict=False)
        model = translate(program)
    run_passes(model, simplify())
    return request.param, ir.to_proto(model).SerializeToString()


def test_a_graph_of_it_has_one_scan_and_every_result_of_its_body_once(graph):
    scans = [node for node in onnx.load_from_string(graph[1]).graph.node if node.op_type == "Scan"]
    assert len(scans) == 1
    body = next(attribute.g for attribute in scans[0].attribute if attribute.name == "body")
    assert len({output.name for output in body.output}) == len(body.output) == 2


@pytest.mark.parametrize("tokens", LENGTHS)
def test_the_graph_takes_any_number_of_tokens(graph, tokens):
    kind, file = graph
    function, make = TRACED[kind]
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = make(tokens)
    feeds = {i.name: tensor.numpy() for i, tensor in zip(session.get_inputs(), given, strict=True)}
    got = tuple(torch.from_numpy(x) for x in session.run(None, feeds))
    with torch.no_grad():
        want = tuple(x.double() for x in function(*given))
        wrong = tuple(x.double() for x in function(*given[:-1], 1.01 * given[-1]))
    assert off(got, want) < NEAR
    assert off(got, wrong) > NEAR
