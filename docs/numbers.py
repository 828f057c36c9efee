"""The figures in the examples of the diagnoses, computed: one function a code, named by it.

docs/generate.py puts what they return into the pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import ml_dtypes
import numpy as np

from rope_deploy.rope import (
    Default,
    DynamicNTK,
    Linear,
    Llama3,
    LongRope,
    Proportional,
    RopeSpec,
    Yarn,
    cos_sin,
    rotate,
)

X = np.arange(1.0, 9.0)
SMALL = RopeSpec(8, 8, False, 10_000.0, Default(), 4096)
HEAD = RopeSpec(64, 64, False, 100_000.0, Default(), 8192)
WIDE = RopeSpec(128, 128, False, 500_000.0, Default(), 131_072)


def rotated(spec: RopeSpec, position: int, x: np.ndarray = X, interleaved: bool | None = None) -> np.ndarray:
    """x [H] rotated at one position, in fp64."""
    cos, sin = cos_sin(spec, np.array([position]), angles="float64")
    layout = spec.interleaved if interleaved is None else interleaved
    return rotate(x[None].astype(np.float64), cos.astype(np.float64), sin.astype(np.float64), interleaved=layout)[0]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Right-aligned columns, the first one left-aligned."""
    cells = [list(head), *([f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip()
        for r in cells
    ]
    return "\n".join(lines)


def vectors(**rows: np.ndarray) -> str:
    """Vectors one below the other, three decimals."""
    width = len(next(iter(rows.values())))
    made = [[name.replace("_", " "), *(f"{v:.3f}" for v in row)] for name, row in rows.items()]
    return table(["element", *map(str, range(width))], made)


def angles(due: RopeSpec, found: RopeSpec, position: int, pairs: Sequence[int], length: int | None = None) -> str:
    """Radians of some pairs at one position."""
    a, b = (spec.inv_freq(length, np.float64) * position for spec in (due, found))
    return table(["pair", "due (rad)", "found (rad)"], [[p, float(a[p]), float(b[p])] for p in pairs])


def score(q_at: int, k_at: int, spec: RopeSpec = SMALL) -> float:
    return float(rotated(spec, q_at) @ rotated(spec, k_at))


def rd101() -> str:
    return vectors(x=X, half_split=rotated(SMALL, 1), interleaved=rotated(SMALL, 1, interleaved=True))


def rd102() -> str:
    rows = [[p, float(np.cos(p)), float(np.sin(p)), float(0 - np.sin(p))] for p in (0, 1, 2, 3)]
    return table(["position", "first element", "second, due", "second, found"], rows)


def rd103() -> str:
    return vectors(x=X, due=rotated(replace(SMALL, rotary_dim=4), 1), found=rotated(SMALL, 1))


def rd104() -> str:
    part = replace(SMALL, head_dim=4, rotary_dim=4)
    return vectors(x=X, due=np.r_[rotated(part, 1, X[:4]), X[4:]], found=np.r_[X[:4], rotated(part, 1, X[4:])])


def rd105() -> str:
    spec = replace(SMALL, scaling=Proportional(0.5))
    cos, sin = (t[:, :2].astype(np.float64) for t in cos_sin(spec, np.array([1]), angles="float64"))
    return vectors(x=X, due=rotated(spec, 1), found=rotate(X[None], cos, sin, interleaved=False)[0])


def rd106() -> str:
    return vectors(due_at_0=X, due_at_1=rotated(SMALL, 1), due_at_9=rotated(SMALL, 9), found_at_any=X)


def rd107() -> str:
    rows = [[p, p, 2 * p, float(np.cos(p)), float(np.cos(2 * p))] for p in (0, 1, 2, 3)]
    return table(["position", "angle due", "angle found", "cos due", "cos found"], rows)


def rd108() -> str:
    rows = [[f"{q}, {k}", score(q, k), float(rotated(SMALL, q) @ X)] for q, k in ((5, 3), (25, 23), (105, 103))]
    return table(["q at, k at", "q·k both rotated", "q·k with only q"], rows)


def rd109() -> str:
    local = replace(HEAD, rope_theta=10_000.0)
    return angles(replace(HEAD, rope_theta=1_000_000.0), local, 1000, (0, 8, 16, 31))


def rd110() -> str:
    return vectors(due_at_any=X, found_at_0=X, found_at_1=rotated(SMALL, 1), found_at_9=rotated(SMALL, 9))


def rd111() -> str:
    turns = [(p, float(np.cos(p)), float(np.sin(p))) for p in (0, 1, 2, 3)]
    rows = [[p, cos, sin, sin, cos] for p, cos, sin in turns]
    return table(["position", "first, due", "second, due", "first, found", "second, found"], rows)


def rd112() -> str:
    still = rotated(SMALL, 9)
    still[[2, 3, 6, 7]] = X[[2, 3, 6, 7]]
    return vectors(x=X, due_at_9=rotated(SMALL, 9), found_at_9=still)


def rd201() -> str:
    rows = [
        [p, p + 1, float(rotated(SMALL, p)[0]), float(rotated(SMALL, p + 1)[0]), score(3, p), score(4, p + 1)]
        for p in (0, 1, 2, 3)
    ]
    return table(["position", "used", "k[0] due", "k[0] found", "score due", "score found"], rows)


def rd202() -> str:
    seen = (("prompt", 2, 2), ("prompt", 3, 3), ("first step", 4, 0), ("second step", 5, 0))
    rows = [[name, fed, used, score(fed, 2), score(used, 2)] for name, fed, used in seen]
    return table(["token", "fed", "used", "score with k at 2, due", "found"], rows)


def rd203() -> str:
    rows = [[i, p, i, score(9, p), score(3, i)] for i, p in enumerate((0, 3, 6, 9))]
    return table(["column", "fed", "used", "score of the last q, due", "found"], rows)


def rd204() -> str:
    rows = [
        [f"{row}, {i}", p, i, float(rotated(SMALL, p)[0]), float(rotated(SMALL, i)[0])]
        for row, begin in ((0, 0), (1, 5))
        for i, p in enumerate((begin, begin + 1))
    ]
    return table(["row, column", "fed", "used", "k[0] due", "k[0] found"], rows)


def rd205() -> str:
    mask = (0, 0, 1, 1, 1)
    due = np.maximum(np.cumsum(mask) - 1, 0)
    rows = [
        [
            i,
            m,
            int(p) if m else "-",
            i,
            float(rotated(SMALL, int(p))[0]) if m else "-",
            float(rotated(SMALL, i)[0]) if m else "-",
        ]
        for i, (m, p) in enumerate(zip(mask, due))
    ]
    return table(["column", "mask", "due", "used", "k[0] due", "k[0] found"], rows)


def rd206() -> str:
    rows = [[p, p % 512, float(np.cos(p)), float(np.cos(p % 512))] for p in (510, 511, 512, 513, 1024)]
    return table(["position", "used", "cos due", "cos found"], rows)


def rd207() -> str:
    rows = [[p, min(p, 511), float(np.cos(p)), float(np.cos(min(p, 511)))] for p in (510, 511, 512, 513, 1024)]
    return table(["position", "row read", "cos due", "cos found"], rows)


def rd209() -> str:
    place = {"t": 7, "h": 2, "w": 3}
    due, found = "tthhww", "wwhhtt"
    frequency = replace(SMALL, head_dim=12, rotary_dim=12).inv_freq(None, np.float64)
    rows = [
        [i, a, b, float(place[a] * frequency[i]), float(place[b] * frequency[i])]
        for i, (a, b) in enumerate(zip(due, found))
    ]
    return table(["pair", "axis due", "axis found", "angle due", "angle found"], rows)


def rd210() -> str:
    rows = [["text", "(4, 4, 4)", 4]]
    rows += [[f"patch {i}", f"(5, {5 + i // 2}, {5 + i % 2})", 5 + i] for i in range(4)]
    return table(["token", "due (t, h, w)", "found"], [*rows, ["text", "(7, 7, 7)", 9]])


def rd301() -> str:
    return angles(HEAD, replace(HEAD, rope_theta=10_000.0), 1000, (0, 8, 16, 31))


def rd302() -> str:
    return angles(replace(WIDE, scaling=Llama3(8.0, 1.0, 4.0, 8192)), WIDE, 1000, (0, 16, 32, 40, 63))


def rd303() -> str:
    return angles(replace(WIDE, scaling=Yarn(4.0, 32_768)), replace(WIDE, scaling=Linear(4.0)), 1000, (0, 16, 32, 63))


def rd304() -> str:
    return angles(replace(HEAD, scaling=Linear(8.0)), replace(HEAD, scaling=Linear(2.0)), 1000, (0, 8, 16, 31))


def _ramp(due: Yarn, found: Yarn, spec: RopeSpec, pairs: Sequence[int]) -> str:
    plain = spec.inv_freq(None, np.float64)
    kept = [replace(spec, scaling=rule).inv_freq(None, np.float64) / plain for rule in (due, found)]
    return table(["pair", "share kept, due", "found"], [[p, float(kept[0][p]), float(kept[1][p])] for p in pairs])


def rd305() -> str:
    spec = RopeSpec(64, 64, False, 150_000.0, Default(), 131_072)
    rule = Yarn(32.0, 4096, truncate=False)
    return _ramp(rule, replace(rule, truncate=True), spec, (7, 8, 9, 12, 16, 17, 18))


def rd306() -> str:
    spec = RopeSpec(64, 64, False, 10_000.0, Default(), 131_072)
    rule = Yarn(16.0, 8192)
    return _ramp(rule, replace(rule, beta_fast=1, beta_slow=32), spec, (4, 11, 15, 20, 25, 28))


def rd307() -> str:
    spec = RopeSpec(64, 64, False, 10_000.0, DynamicNTK(2.0, 2048), 8192)
    rows = [
        [n, float(spec.inv_freq(n, np.float64)[20]), float(spec.inv_freq(2048, np.float64)[20])]
        for n in (1024, 2048, 2049, 4096, 8192)
    ]
    return table(["length", "pair 20, due (rad/position)", "found"], rows)


def longrope() -> RopeSpec:
    short, long = (1.0,) * 32, tuple(float(v) for v in np.round(np.linspace(1, 40, 32), 2))
    return RopeSpec(64, 64, False, 10_000.0, LongRope(short, long, 4096, 32.0), 131_072)


def rd308() -> str:
    spec = longrope()
    a, b = (spec.inv_freq(n, np.float64) * 4000 for n in (4096, 4097))
    rows = [[p, float(a[p]), float(b[p])] for p in (0, 8, 16, 31)]
    return table(["pair", "due up to 4096 tokens", "due beyond (found in both)"], rows)


def rd309() -> str:
    due = HEAD.inv_freq(None, np.float64)
    found = due.copy()
    found[5] = round(float(due[5]), 2)
    rows = [[p, float(due[p]), float(found[p]), float((found[p] - due[p]) * 1000)] for p in (4, 5, 6)]
    return table(["pair", "due (rad/position)", "found", "angle off at 1000"], rows)


def _lengths(factor: float, due: float) -> str:
    long = float(np.linalg.norm(X))
    rows = [
        ["length of x", long, long],
        ["length of rotated x", long * due, long * factor],
        ["score q·k at equal positions", long**2 * due**2, long**2 * factor**2],
    ]
    return table(["", "due", "found"], rows)


def rd401() -> str:
    return _lengths(1.0, Yarn(16.0, 4096).attention_scaling)


def rd402() -> str:
    due = Yarn(16.0, 4096).attention_scaling
    return _lengths(due * due, due)


def rd403() -> str:
    return _lengths(1.1, 1.0)


def rd501() -> str:
    rows = []
    for p in (255, 257, 1000, 4091, 4092):
        half = float(np.float32(p).astype(ml_dtypes.bfloat16))
        rows.append([p, f"{half:.0f}", float(np.cos(p)), float(np.cos(half))])
    return table(["position", "in bf16", "cos due", "cos found"], rows)


def rd502() -> str:
    rows = []
    for p in (2047, 2049, 4093, 8191):
        step = 2.0 ** (np.floor(np.log2(p)) - 10)
        used = int(np.round(p / step) * step)
        rows.append([p, used, float(np.cos(p)), float(np.cos(used))])
    return table(["position", "in TF32", "cos due", "cos found"], rows)


def rd503() -> str:
    rows = []
    for p in (1, 100, 4000, 131_000):
        cos = float(np.cos(p))
        half = float(np.float32(cos).astype(ml_dtypes.bfloat16))
        rows.append([p, f"{cos:.6f}", f"{half:.6f}", f"{abs(half - cos):.1e}"])
    return table(["position", "cos due", "cos found", "off by"], rows)


def rd504() -> str:
    due = WIDE.inv_freq(None, np.float64)
    found = due.astype(np.float16).astype(np.float64)
    rows = [
        [p, f"{due[p]:.7g}", f"{found[p]:.7g}", *(float(abs(found[p] - due[p]) * n) for n in (100, 8191, 131_071))]
        for p in (1, 10, 30, 63)
    ]
    return table(["pair", "due", "in fp16", "angle off at 100", "at 8191", "at 131071"], rows)


def rd900() -> str:
    return vectors(x=X, due=rotated(SMALL, 1), found=rotated(SMALL, 1)[::-1])


NUMBERS = {
    name.upper(): value for name, value in list(globals().items()) if name.startswith("rd") and name[2:].isdigit()
}
