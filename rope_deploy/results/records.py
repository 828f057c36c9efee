"""What a run found out. Every renderer (terminal, JSON, JUnit, Markdown, HTML) draws from these records alone.

Times are in seconds unless a name says ms; sizes in bytes. Errors of logits are absolute differences, those of q, k
and the cache are relative to the largest element of their tensor where that is above 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["passed", "failed", "skipped"]
Kind = Literal["", "check", "audit", "bench", "ci", "baseline"]


@dataclass(frozen=True)
class ExportRecord:
    """One style written to disk. `runtime_cos_sin`: Cos and Sin nodes left in its graph, None if not counted.

    `ran`: what came of running a rewritten file beside the original, in a sentence; "" where nothing was to be run.
    """

    style: str
    folder: str
    opset: int
    nodes: int
    sites: int
    rotations: int
    bytes: int
    seconds: float
    findings: tuple[str, ...] = ()
    runtime_cos_sin: int | None = None
    ran: str = ""


@dataclass(frozen=True)
class GraphRecord:
    """What one exported file holds when it is read again, independently of what the export recorded.

    `rotations` of `expected` were recognised in the form of the style; `forms` counts every form that was found.
    `tables` cos and sin tables feed them where `needed` are enough. `providers` says how many nodes ONNX Runtime gave
    to which execution provider, {} if it was not asked; `provider` is the one that should have them all.
    """

    style: str
    nodes: int
    rotations: int
    expected: int
    forms: dict[str, int]
    tables: int
    needed: int
    runtime_cos_sin: int
    unmatched: tuple[str, ...] = ()
    provider: str = ""
    providers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineRecord:
    """One TensorRT engine. `verdict` "skipped" carries the reason in `message`."""

    path: str
    style: str
    flavor: str
    capabilities: tuple[str, ...]
    bytes: int
    seconds: float
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True)
class Worst:
    """Where the largest error of a case lies. `position` is the token's position id."""

    tensor: str
    error: float
    tolerance: float
    layer: int | None = None
    role: str | None = None
    batch: int | None = None
    position: int | None = None


@dataclass(frozen=True)
class CheckRecord:
    """One parity case: `case` is its stable id (e.g. "prefill", "decode-left-padded"), `detail` what it feeds.

    `worst` is the tensor that came closest to its tolerance, or exceeded it most; `logits_error` and `rotated_error`
    (relative to the largest element of its tensor, if that is above 1)
    are the largest errors of their kind, wherever they lie (None: that kind was not compared). `oracle_error` is the
    largest error of a rotation against the fp64 oracle that rotates the same input, `reference_error` PyTorch's own.
    """

    style: str
    runtime: str
    case: str
    detail: str
    verdict: Verdict
    worst: Worst | None
    message: str
    seconds: float
    logits_error: float | None = None
    rotated_error: float | None = None
    oracle_error: float | None = None
    reference_error: float | None = None


@dataclass(frozen=True)
class ErrorCurve:
    """Largest rotated-q/k error against PyTorch at each position id, over all layers of one style."""

    style: str
    runtime: str
    role: str
    positions: tuple[int, ...]
    errors: tuple[float, ...]
    tolerance: float


@dataclass(frozen=True)
class ErrorMap:
    """Largest error of rotated q or k by layer and position: `errors[i][j]` belongs to layers[i] and positions[j].

    In units of the tolerance: above 1 is wrong. nan where a layer was not seen at a position.
    """

    style: str
    runtime: str
    role: str
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    errors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class DiagnosisRecord:
    """One mistake, named. `code` and `title` are those of `results.codes`; `where` is a text that says where it shows.

    `explanation` is one sentence with what was estimated ("rope_theta is 10 000 instead of 1 000 000").
    `error` is the largest error seen and `residual` what is left of it if the mistake is taken into account, both in
    units of what rounding explains (1 and less is sound). `cases` are those in which it shows.
    """

    style: str
    runtime: str
    code: str
    title: str
    where: str
    explanation: str
    layers: tuple[int, ...] = ()
    roles: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    error: float = 0.0
    residual: float = 0.0


@dataclass(frozen=True)
class LatencyRecord:
    """One (runtime, style, workload) timing from interleaved rounds. `workload`: "prefill 128", "decode @128".

    `ratio` is the median over the rounds of this time to that of `reference` (a label such as "torch" or
    "ort/tables"); between `ratio_low` and `ratio_high` the true median lies in 19 runs of 20, as far as the spread of
    the rounds can tell. `rotation_share` is the part of the time that the rotation takes, None where it is unknown.
    `threads` None: the runtime chose.

    `processor_ratio` is that of processor times with one thread each, which other processes do not stretch (None on a
    GPU, for compiled PyTorch, and where it was not asked for), and `waiting` the share of its ready time in which this
    contestant, or the reference, was kept from the processors by others: near 0 on a quiet machine, None where the
    system does not tell.
    """

    runtime: str
    style: str
    workload: str
    tokens: int
    rounds: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    reference: str = ""
    threads: int | None = None
    rotation_share: float | None = None
    processor_ratio: float | None = None
    processor_ratio_low: float | None = None
    processor_ratio_high: float | None = None
    waiting: float | None = None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / (self.median_ms / 1e3) if self.median_ms else math.inf


@dataclass(frozen=True)
class ContestantRecord:
    """Who took part in a benchmark ("passed"), or could not and why ("skipped"), and what it took.

    Memory is that of a process of its own, which opened this contestant alone and ran each workload once: `peak_bytes`
    the most that was ever resident, loading included, `resident_bytes` what was resident at the end, `before_bytes`
    what Python and its libraries held before the model was opened. `arena_bytes` is what ONNX Runtime's own
    allocator held at most, weights included. None: not measured. `note` says what could not be told apart.
    """

    runtime: str
    style: str
    verdict: Verdict
    message: str = ""
    peak_bytes: int | None = None
    resident_bytes: int | None = None
    before_bytes: int | None = None
    arena_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class GenerationRecord:
    """Greedy continuation of one prompt; `agrees` compares token by token with PyTorch (None for PyTorch itself)."""

    runtime: str
    style: str
    prompt: str
    text: str
    tokens: tuple[int, ...]
    agrees: bool | None


@dataclass(frozen=True)
class GateRecord:
    """One condition a CI run asked for, and what it measured."""

    name: str
    verdict: Verdict
    measured: str
    limit: str


@dataclass(frozen=True)
class Report:
    """One run. The verdict is computed, never stored.

    `kind` is what made it; "" is a report made by hand. A report file is replaced by the next of its kind alone.
    """

    title: str
    source: str
    created: str
    machine: str
    versions: dict[str, str]
    seconds: float
    exports: tuple[ExportRecord, ...] = ()
    graphs: tuple[GraphRecord, ...] = ()
    engines: tuple[EngineRecord, ...] = ()
    checks: tuple[CheckRecord, ...] = ()
    diagnoses: tuple[DiagnosisRecord, ...] = ()
    curves: tuple[ErrorCurve, ...] = ()
    maps: tuple[ErrorMap, ...] = ()
    latencies: tuple[LatencyRecord, ...] = ()
    contestants: tuple[ContestantRecord, ...] = ()
    generations: tuple[GenerationRecord, ...] = ()
    gates: tuple[GateRecord, ...] = ()
    notes: tuple[str, ...] = field(default=())
    kind: Kind = ""

    @property
    def verdict(self) -> Verdict:
        """Failed if anything failed; skipped if nothing was judged at all."""
        verdicts = [r.verdict for group in (self.engines, self.checks, self.gates) for r in group]
        verdicts += ["failed"] * bool(self.diagnoses)
        verdicts += ["passed" if g.agrees else "failed" for g in self.generations if g.agrees is not None]
        if "failed" in verdicts:
            return "failed"
        return "passed" if "passed" in verdicts else "skipped"
