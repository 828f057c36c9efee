"""A rotation to try, the memory it happens in, and what must come out of it according to fp64.

The same cases run on the CPU and on a GPU. Needs numpy and rope_deploy.rope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from plugins.binding import (
    BFLOAT16,
    CHUNKED,
    FLOAT16,
    FLOAT32,
    INTERLEAVED,
    NAN,
    PASS_THROUGH,
    Cut,
    Kernel,
    Memory,
    Parameters,
    Strides,
    Tensor,
)
from rope_deploy.rope import rotate

TYPES = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}
STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
BITS = {"float32": 24, "float16": 11, "bfloat16": 8}  # of the significand
SMALLEST = {"float32": -125, "float16": -13, "bfloat16": -125}  # exponent of the smallest normal number, as by frexp
MARGIN = 64  # elements before and after every tensor, which must stay as they are
FULL_TURN = 2 * np.longdouble("3.14159265358979323846264338327950288")
THETA = 1e4
EPS = 1e-6


@dataclass(frozen=True)
class Case:
    """One call. `cache` is a type, "same" as q's, or "computed": no table. A tensor's layout is in LAYOUTS."""

    type: str = "bfloat16"
    batch: int = 2
    tokens: int = 3
    q_heads: int = 4
    k_heads: int = 2
    head_dim: int = 64
    rotary_dim: int = 64
    interleaved: bool = False
    proportional: bool = False
    cache: str = "float32"
    rows: int = 40  # of the cache; positions reach it but for the strays
    beside: bool = False  # cos and sin side by side in one cache, as vLLM has them
    poisoned: bool = False  # the last row is NaN and some positions are sent there, as by our exporter
    # Some positions are outside the cache: "near" it; also "far" from it; "wrapped": inside it if cut to 32 bits.
    strays: str = ""
    passes: bool = False  # and such tokens pass through
    farthest: int = 1 << 20  # position, where no table bounds it
    positions: str = "int64"
    shared: bool = False  # one row of positions for all sequences
    sections: tuple[int, ...] = ()  # M-RoPE
    mixed: bool = False  # its sections are interleaved
    layout_in: str = "BSNH"
    layout_out: str = "BNSH"  # ignored in place
    in_place: bool = False
    norm: str = ""  # "q", "qk": what is normalized
    norm_type: str = "float32"
    offset: int = 0  # elements by which memory is off its alignment
    heads_per_thread: int = 0
    early_start: bool = False


def layout(name: str, case: Case, heads: int) -> tuple[tuple[int, int, int], int]:
    """Strides (batch, token, head) in elements, and elements altogether."""
    s, h = case.tokens, case.head_dim
    if name == "BSNH":
        return (s * heads * h, heads * h, h), case.batch * s * heads * h
    if name == "BNSH":
        return (heads * s * h, h, s * h), case.batch * s * heads * h
    if name == "fused":  # a slice of one projection of q, k and v, with room between heads
        return (s * (heads + 3) * (h + 16), (heads + 3) * (h + 16), h + 16), case.batch * s * (heads + 3) * (h + 16)
    if name == "odd":  # nothing is aligned
        return (s * heads * (h + 1) + 5, heads * (h + 1), h + 1), case.batch * (s * heads * (h + 1) + 5)
    raise ValueError(name)


def encode(kind: str, values: np.ndarray) -> np.ndarray:
    """fp64 to what is stored, rounded once, to nearest even."""
    with np.errstate(invalid="ignore", over="ignore"):
        _, exponent = np.frexp(values)
        unit = BITS[kind] - np.maximum(exponent, SMALLEST[kind])
        rounded = np.ldexp(np.rint(np.ldexp(values, unit)), -unit)
        if kind == "bfloat16":
            return (rounded.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return rounded.astype(STORED[kind])


def decode(kind: str, stored: np.ndarray) -> np.ndarray:
    """What is stored, as fp64."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        if kind == "bfloat16":
            return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return stored.astype(np.float64)


def half_ulp(kind: str, values: np.ndarray) -> np.ndarray:
    """The largest error of rounding to the type, here."""
    _, exponent = np.frexp(values)
    return np.ldexp(0.5, np.maximum(exponent, SMALLEST[kind]) - BITS[kind])


class Field:
    """A tensor in memory with margins: `stored` is all of it, `view` the elements, [B, N, S, H]."""

    def __init__(self, case: Case, name: str, heads: int, fill: np.ndarray | None = None) -> None:
        self.strides, size = layout(name, case, heads)
        stored = np.full(size + 2 * MARGIN, 0xCB, np.uint8).repeat(np.dtype(STORED[case.type]).itemsize)
        self.stored = stored.view(STORED[case.type])
        self._shape = (case.batch, heads, case.tokens, case.head_dim)
        if fill is not None:
            self.view(self.stored)[...] = fill

    def view(self, stored: np.ndarray) -> np.ndarray:
        b, s, n = (stride * stored.itemsize for stride in self.strides)
        return as_strided(stored[MARGIN:], self._shape, (b, n, s, stored.itemsize), writeable=stored.flags.writeable)


class Problem:
    """A case with numbers: random tensors, a table or frequencies, positions."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        self.case = case
        rng = np.random.default_rng(seed)
        half, axes = case.rotary_dim // 2, 3 if case.sections else 1
        self.inv_freq = THETA ** (-np.arange(half) / half)
        self.scale = 1.0 if rng.integers(2) else 1.25
        self.cache_type = case.type if case.cache == "same" else "float32"
        angles = np.arange(case.rows)[:, None] * self.inv_freq
        tables = [encode(self.cache_type, f(angles) * self.scale) for f in (np.cos, np.sin)]
        if case.poisoned:
            for table in tables:
                table[-1] = encode(self.cache_type, np.full(half, np.nan))
        self.tables = tables
        self.positions = self._positions(rng, axes).astype(case.positions)
        shape = (case.batch, case.tokens, case.head_dim)
        self.x = {}
        for name, heads in (("q", case.q_heads), ("k", case.k_heads)):
            self.x[name] = encode(case.type, rng.standard_normal((shape[0], heads, *shape[1:])))
        self.weights = {
            name: encode(case.norm_type, 1 + 0.2 * rng.standard_normal(case.head_dim)) for name in case.norm
        }

    def _positions(self, rng: np.random.Generator, axes: int) -> np.ndarray:
        """[axes, B or 1, S]"""
        case = self.case
        shape = (axes, 1 if case.shared else case.batch, case.tokens)
        if case.cache == "computed":
            return rng.integers(-case.farthest, case.farthest + 1, shape)
        positions = rng.integers(0, case.rows - case.poisoned, shape)
        if case.poisoned:
            positions[rng.random(shape) < 0.3] = case.rows - 1
        if case.strays:
            away = [1 << 32, -(1 << 32) + 1] if case.strays == "wrapped" else [-1, case.rows, case.rows + 1]
            if case.strays == "far":
                away += [-(2**31), 2**31 - 1] if case.positions == "int32" else [-(2**63), 2**32, 2**62 + 1]
            positions = np.where(rng.random(shape) < 0.4, rng.choice(np.array(away), shape), positions)
        return positions

    def expected(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The rotated tensor in fp64, [B, N, S, H], and how far fp32 arithmetic may be from it before rounding."""
        case = self.case
        x = decode(case.type, self.x[name])
        slack = 2.0**-21 if case.cache == "computed" else 2.0**-22  # a GPU's sine is off by an ulp or two
        if name in case.norm:
            x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * decode(case.norm_type, self.weights[name])
            slack += 2.0**-20
        cos, sin = self._cos_sin()
        if case.proportional and not case.interleaved:
            still = (*cos.shape[:-1], (case.head_dim - case.rotary_dim) // 2)
            cos, sin = np.append(cos, np.ones(still), -1), np.append(sin, np.zeros(still), -1)
        cos, sin = cos[:, None], sin[:, None]
        turned = rotate(x, cos, sin, interleaved=case.interleaved)
        partner = rotate(x, np.zeros_like(cos), np.ones_like(sin), interleaved=case.interleaved)
        return turned, (abs(x) + abs(partner)) * self.scale * slack

    def _cos_sin(self) -> tuple[np.ndarray, np.ndarray]:
        """fp64 [B, S, R/2]; NaN or 1 and 0 where a position is outside the table."""
        case = self.case
        positions = np.broadcast_to(self.positions, (len(self.positions), case.batch, case.tokens)).astype(np.int64)
        axis = self._axis_of_pair()
        if case.cache == "computed":
            # In 64 bits of significand, so that positions of 2^40 still leave 24 for the angle.
            of_pair = np.moveaxis(positions, 0, -1)[..., axis].astype(np.longdouble)
            angle = np.fmod(of_pair * self.inv_freq, FULL_TURN).astype(np.float64)
            return np.cos(angle) * self.scale, np.sin(angle) * self.scale
        outside = ((positions < 0) | (positions >= case.rows)).any(0)
        inside = np.where((positions < 0) | (positions >= case.rows), 0, positions)
        rows = np.moveaxis(inside, 0, -1)[..., axis]  # [B, S, R/2]
        cos, sin = (decode(self.cache_type, table)[rows, np.arange(len(axis))] for table in self.tables)
        cos[outside], sin[outside] = (1, 0) if case.passes else (np.nan, np.nan)
        return cos, sin

    def _axis_of_pair(self) -> np.ndarray:
        """Which position row each pair takes, [R/2]; as in transformers' Qwen2-VL and Qwen3-VL."""
        case = self.case
        half = case.rotary_dim // 2
        if not case.sections:
            return np.zeros(half, int)
        if not case.mixed:
            return np.repeat(np.arange(3), case.sections)
        axis = np.zeros(half, int)
        for number in (1, 2):
            axis[number : 3 * case.sections[number] : 3] = number
        return axis


class Run:
    """A problem laid out in the kernel's memory, ready to launch; `outcome` compares."""

    def __init__(self, problem: Problem, kernel: Kernel) -> None:
        self.problem, self._kernel, case = problem, kernel, problem.case
        size = np.dtype(STORED[case.type]).itemsize
        self._kept: list[Memory] = []
        self._fields: dict[str, tuple[Field, Field, Memory]] = {}
        tensors = {}
        for name, heads in (("q", case.q_heads), ("k", case.k_heads)):
            if heads == 0:
                continue
            source = Field(case, case.layout_in, heads, problem.x[name])
            given = self._put(source.stored, case.offset * size)
            target = source if case.in_place else Field(case, case.layout_out, heads)
            taken = given if case.in_place else self._put(target.stored, case.offset * size)
            self._fields[name] = source, target, taken
            tensors[name] = Tensor(
                input=given.address + MARGIN * size,
                output=taken.address + MARGIN * size,
                in_stride=Strides(*source.strides),
                out_stride=Strides(*target.strides),
                heads=heads,
                norm_weight=self._put(problem.weights[name]).address if name in case.norm else None,
            )
        self.parameters = Parameters(
            **tensors,
            **self._angles(),
            **self._positions(),
            type=TYPES[case.type],
            batch=case.batch,
            tokens=case.tokens,
            head_dim=case.head_dim,
            rotary_dim=case.rotary_dim,
            interleaved=case.interleaved,
            proportional=case.proportional,
            norm_eps=EPS,
            norm_type=TYPES[case.norm_type],
            early_start=case.early_start,
            heads_per_thread=case.heads_per_thread,
        )

    def _put(self, array: np.ndarray, offset: int = 0) -> Memory:
        self._kept.append(Memory(self._kernel, array, offset))
        return self._kept[-1]

    def _angles(self) -> dict[str, object]:
        problem, case = self.problem, self.problem.case
        if case.cache == "computed":
            steps = self._put(self._kernel.turn_steps(problem.inv_freq))
            return {"turn_steps": steps.address, "scale": problem.scale}
        cos, sin = problem.tables
        given = {
            "cache_type": TYPES[problem.cache_type],
            "cache_rows": case.rows,
            "outside": PASS_THROUGH if case.passes else NAN,
        }
        if case.beside:
            both = self._put(np.concatenate([cos, sin], 1)).address
            beside = both + cos.shape[1] * cos.itemsize
            return given | {"cos_cache": both, "sin_cache": beside, "cache_row_stride": case.rotary_dim}
        return given | {"cos_cache": self._put(cos).address, "sin_cache": self._put(sin).address}

    def _positions(self) -> dict[str, object]:
        problem, case = self.problem, self.problem.case
        given = {
            "positions": self._put(problem.positions).address,
            "positions_are_int64": case.positions == "int64",
            "position_batch_stride": 0 if case.shared else case.tokens,
        }
        if case.sections:
            given |= {
                "position_axes": 3,
                "position_axis_stride": problem.positions[0].size,
                "section": case.sections,
                "sections": INTERLEAVED if case.mixed else CHUNKED,
            }
        return given

    @property
    def cut(self) -> Cut:
        return self._kernel.cut(self.parameters)

    def launch(self) -> Run:
        if fault := self._kernel.launch(self.parameters):
            raise ValueError(fault)
        return self

    def untouched(self) -> bool:
        """Whether the outputs' memory is still as it was before a launch."""
        return all(np.array_equal(taken.read(), target.stored) for _, target, taken in self._fields.values())

    def outcome(self) -> list[str]:
        """What is wrong with the tensors now, in words; empty if nothing is."""
        return [f"{name}: {fault}" for name in self._fields for fault in self._faults(name)]

    def results(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """What came out, as stored, and fp64's answer, both [B, N, S, H]."""
        _, target, taken = self._fields[name]
        return target.view(taken.read()), self.problem.expected(name)[0]

    def _faults(self, name: str) -> list[str]:
        case = self.problem.case
        _, target, taken = self._fields[name]
        after = taken.read()
        came = target.view(after).copy()
        target.view(after)[...] = target.view(target.stored)
        found = []
        if not np.array_equal(after.view(np.uint8), target.stored.view(np.uint8)):
            found.append("something outside the tensor was written")
        wanted, slack = self.problem.expected(name)
        came64 = decode(case.type, came)
        if not np.array_equal(np.isnan(came64), np.isnan(wanted)):
            found.append("NaN in the wrong places")
        with np.errstate(invalid="ignore"):
            error = abs(came64 - wanted)
            bound = slack + half_ulp(case.type, np.nan_to_num(abs(wanted) + slack))
            wrong = error > bound
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            found.append(f"{wrong.mean():.2%} are wrong, the first at {at}: {came64[at]:.9g}, not {wanted[at]:.9g}")
        return found


def outcome(case: Case, kernel: Kernel, seed: int = 0) -> list[str]:
    """Run the case; what is wrong, in words."""
    return Run(Problem(case, seed), kernel).launch().outcome()
