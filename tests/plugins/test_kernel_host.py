"""The kernel's arithmetic and indexing, compiled for the CPU: random cases, refusals, and faults it must notice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins import binding
from plugins.binding import Kernel, Parameters
from plugins.tests.cases import Case, Problem, Run, decode, encode, outcome
from plugins.tests.selections import TYPES

LAYOUTS = ("BSNH", "BNSH", "fused", "odd")


def build_host(**arguments) -> Path:
    try:
        return binding.build_host(**arguments)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel(build_host())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    head_dim = 2 * draw(st.integers(1, 150))
    rotary_dim = draw(st.one_of(st.just(head_dim), st.integers(1, head_dim // 2).map(lambda half: 2 * half)))
    half = rotary_dim // 2
    sections: tuple[int, ...] = ()
    if draw(st.integers(0, 3)) == 0:
        first, second = sorted((draw(st.integers(0, half)), draw(st.integers(0, half))))
        sections = (first, second - first, half - second)
    kind, cache = draw(st.sampled_from(TYPES)), draw(st.sampled_from(("float32", "same", "computed")))
    table = cache != "computed"
    return Case(
        type=kind,
        batch=draw(st.integers(0, 3)),
        tokens=draw(st.integers(0, 5)),
        q_heads=draw(st.integers(1, 9)),
        k_heads=draw(st.integers(0, 5)),
        head_dim=head_dim,
        rotary_dim=rotary_dim,
        interleaved=draw(st.booleans()),
        proportional=draw(st.booleans()),
        cache=cache,
        rows=draw(st.integers(2, 50)),
        beside=table and draw(st.booleans()),
        poisoned=table and draw(st.booleans()),
        strays=draw(st.sampled_from(("", "near", "far"))) if table else "",
        passes=draw(st.booleans()),
        farthest=draw(st.sampled_from((100, 1 << 20, 1 << 30))),
        positions=draw(st.sampled_from(("int32", "int64"))),
        shared=draw(st.booleans()),
        sections=sections,
        mixed=draw(st.booleans()),
        layout_in=draw(st.sampled_from(LAYOUTS)),
        layout_out=draw(st.sampled_from(LAYOUTS)),
        in_place=draw(st.booleans()),
        norm=draw(st.sampled_from(("", "", "q", "qk"))),
        norm_type=draw(st.sampled_from(("float32", kind))),
        offset=draw(st.sampled_from((0, 0, 0, 1, 4))),
        heads_per_thread=draw(st.sampled_from((0, 1, 2, 4))),
    )


@given(cases(), st.integers(0, 1 << 20))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.slow
def test_random_cases_are_right(kernel: Kernel, case: Case, seed: int) -> None:
    assert outcome(case, kernel, seed) == []


def test_every_16_bit_float_survives_the_trip_through_fp32(kernel: Kernel) -> None:
    """By a rotation of no angle, which multiplies by 1 and adds 0: widening and narrowing are inverses."""
    for kind in ("float16", "bfloat16"):
        every = np.arange(1 << 16, dtype=np.uint16)
        finite = np.isfinite(decode(kind, every.view(np.float16) if kind == "float16" else every))
        problem = Problem(Case(type=kind, batch=1, tokens=512, q_heads=1, k_heads=0, head_dim=128, rotary_dim=128))
        problem.positions[...] = 0
        problem.scale, problem.tables = 1.0, [np.ones((40, 64), np.float32), np.zeros((40, 64), np.float32)]
        problem.x["q"] = np.where(finite, every, 0).astype(np.uint16).view(problem.x["q"].dtype).reshape(1, 1, 512, 128)
        came, _ = Run(problem, kernel).launch().results("q")
        assert np.array_equal(decode(kind, came), decode(kind, problem.x["q"]))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_rounding_is_to_nearest_even_over_the_whole_range(kernel: Kernel, kind: str) -> None:
    """fp32 caches times an input of 1 are rounded to the type; midpoints, subnormals and overflow included."""
    rng = np.random.default_rng(0)
    values = np.float32(rng.standard_normal((512, 64)) * 2.0 ** rng.integers(-30, 17, (512, 64)))
    midpoints = decode(kind, encode(kind, values.astype(np.float64))) * (
        1 + 2.0 ** -{"float16": 11, "bfloat16": 8}[kind]
    )
    values[::2] = midpoints[::2]
    problem = Problem(
        Case(type=kind, batch=1, tokens=512, q_heads=1, k_heads=0, head_dim=128, rotary_dim=128, rows=512)
    )
    problem.positions[...] = np.arange(512)
    problem.tables = [values, np.zeros_like(values)]
    problem.x["q"] = encode(kind, np.ones((1, 1, 512, 128)))
    came, _ = Run(problem, kernel).launch().results("q")
    assert np.array_equal(came[0, 0, :, :64], encode(kind, values.astype(np.float64)))


def test_turn_steps_are_exact_to_the_last_bits_of_the_double(kernel: Kernel) -> None:
    """2^64 turns, negative and positive, against integers of any size."""
    inv_freq = np.concatenate([1e4 ** -(np.arange(64) / 64), [-1.0, -(1e-9), 0.0, 6.28]])
    steps = kernel.turn_steps(inv_freq)
    tau = np.longdouble(2) * np.longdouble("3.14159265358979323846264338327950288")
    for step, frequency in zip(steps.tolist(), inv_freq, strict=True):
        turns = np.longdouble(step) / np.longdouble(2) ** 64
        error = (turns - np.longdouble(frequency) / tau + 0.5) % 1 - 0.5
        assert abs(error) <= 2.0**-52 * max(abs(frequency) / 6.28, 2.0**-10)


BAD = [
    ({"type": 3}, "type is none"),
    ({"batch": -1}, "must not be negative"),
    ({"head_dim": 63, "rotary_dim": 62}, "head_dim must be even"),
    ({"rotary_dim": 0}, "rotary_dim must be even and positive"),
    ({"rotary_dim": 33}, "rotary_dim must be even and positive"),
    ({"rotary_dim": 128}, "larger than head_dim"),
    ({"outside": 2}, "outside is no member"),
    ({"cache_type": 1}, "caches must be fp32 or of the type of q"),
    ({"cache_rows": -1}, "cache_rows"),
    ({"cache_row_stride": 31}, "cache rows overlap"),
    ({"cos_cache": None}, "neither caches nor turn_steps"),
    ({"positions": None}, "positions is null"),
    ({"position_axes": 2}, "position_axes must be 1 or 3"),
    ({"position_axes": 3, "section": (8, 12, 13)}, "add up to rotary_dim / 2"),
    ({"position_axes": 3, "section": (40, -8, 0)}, "must not be negative"),
    ({"position_axes": 3, "section": (8, 12, 12), "sections": 2}, "sections is no member"),
    ({"norm_type": 1}, "norm weights must be fp32"),
    ({"heads_per_thread": 3}, "heads_per_thread must be"),
    ({"q.heads": 0}, "q needs at least one head"),
    ({"q.input": None}, "a tensor to rotate is null"),
    ({"q.out_stride.head": 0}, "write one place twice"),
]


@pytest.mark.parametrize(("wrong", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_parameters_are_refused_in_words(kernel: Kernel, wrong: dict[str, object], words: str) -> None:
    run = Run(Problem(Case()), kernel)
    for path, value in wrong.items():
        *owners, name = path.split(".")
        owner = run.parameters
        for step in owners:
            owner = getattr(owner, step)
        setattr(owner, name, (type(owner.section))(*value) if name == "section" else value)
    assert words in (kernel.launch(run.parameters) or "")
    assert run.untouched()


def test_in_place_with_other_strides_is_refused(kernel: Kernel) -> None:
    run = Run(Problem(Case(in_place=True)), kernel)
    run.parameters.q.out_stride.head += 8
    assert "strides in and out must be equal" in (kernel.launch(run.parameters) or "")


def test_too_many_groups_of_heads_are_refused(kernel: Kernel) -> None:
    run = Run(Problem(Case()), kernel)
    run.parameters.batch = run.parameters.tokens = 1 << 16
    assert "split the batch" in (kernel.launch(run.parameters) or "")


CUT_CASES = [
    (Case(), 8),
    (Case(type="float32"), 4),
    *((Case(head_dim=size, rotary_dim=size), 8) for size in (64, 80, 96, 128, 256)),
    (Case(head_dim=80, rotary_dim=32), 8),
    (Case(head_dim=96, rotary_dim=24), 1),
    (Case(offset=1), 1),
    (Case(offset=8), 8),
    (Case(layout_in="odd"), 1),
    (Case(layout_in="fused"), 8),
    (Case(beside=True), 8),
    (Case(type="float32", head_dim=512, rotary_dim=512), 4),
    (Case(type="float32", head_dim=512, rotary_dim=512, norm="q"), 1),
]


@pytest.mark.parametrize(("case", "vector"), CUT_CASES, ids=str)
def test_accesses_are_of_16_bytes_where_size_and_alignment_allow(kernel: Kernel, case: Case, vector: int) -> None:
    run = Run(Problem(case), kernel)
    assert run.cut.vector == vector
    assert run.launch().outcome() == []


def test_only_common_rotations_take_the_plain_variant(kernel: Kernel) -> None:
    assert Run(Problem(Case()), kernel).cut.plain
    for case in (Case(cache="computed"), Case(sections=(8, 12, 12))):
        assert not Run(Problem(case), kernel).cut.plain


def test_two_heads_of_one_thread_do_not_cross_the_last_head(kernel: Kernel) -> None:
    for heads in (1, 2, 3, 4, 5, 7):
        assert outcome(Case(q_heads=heads, k_heads=heads, heads_per_thread=4, layout_out="BSNH"), kernel) == []


def test_the_mirror_of_the_structure_has_the_defaults_of_the_header() -> None:
    """Where the header's are not 0."""
    text = binding.sources()["include/rope_kernel.h"]
    defaults = Parameters()
    for name, value in (
        ("scale", "1.0F"),
        ("position_token_stride", "1"),
        ("position_axes", "1"),
        ("norm_eps", "1e-6F"),
    ):
        assert f" {name} = {value};" in text
        assert getattr(defaults, name) == np.float32(value.rstrip("F"))
