"""Rules that tie several values of a file together. Each yields one sentence per breach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rope_deploy.config.schema import (
    BenchSection,
    BuildSection,
    CheckSection,
    ExportSection,
    GatesSection,
    GenerateSection,
    ModelSection,
    OutputSection,
)
from rope_deploy.options import FEWEST_ROUNDS
from rope_deploy.runtime_registry import RUNTIMES
from rope_deploy.styles import opset_needed


def breaches(sections: Mapping[str, Any]) -> Iterator[str]:
    """Apply every rule whose tables were decoded.

    A table that was left out is None in `sections`. One with faults of its own is absent, and the rules that need it
    are not applied until it is corrected.
    """
    for rule, needs in RULES:
        if all(name in sections for name in needs):
            yield from rule(*(sections[name] for name in needs))


def model_is_named_once(model: ModelSection) -> Iterator[str]:
    if model.source is None and model.package is None:
        yield "[model]: name the model with source, or with package and file."
    if model.source is not None and (model.package is not None or model.file is not None):
        yield "[model]: source and package name two models; keep one of them."
    elif (model.package is None) != (model.file is None):
        yield "[model]: package and file belong together; one of them is missing."
    if model.file is not None and (
        model.file.startswith(("/", "\\")) or ".." in model.file.replace("\\", "/").split("/")
    ):
        yield "[model] file: must be a path inside the package."


def every_style_has_its_opset(export: ExportSection) -> Iterator[str]:
    for name in dict.fromkeys(export.styles):
        if (oldest := opset_needed(name, export.opset)) is not None:
            yield (
                f"[export] opset: style {name} needs opset {oldest} or later, not {export.opset}. "
                f"Leave opset out, or take {name} off styles."
            )


def lists_have_each_entry_once(
    export: ExportSection, check: CheckSection, bench: BenchSection | None, output: OutputSection
) -> Iterator[str]:
    lists: dict[str, tuple[str, ...]] = {
        "[export] styles": export.styles,
        "[check] runtimes": check.runtimes,
        "[bench] runtimes": bench.runtimes if bench else (),
        "[bench] prompt": tuple(map(str, bench.prompts)) if bench else (),
        "[output] formats": output.formats,
    }
    for path, entries in lists.items():
        for entry in dict.fromkeys(entries):
            if entries.count(entry) > 1:
                yield f"{path}: {entry} is there {entries.count(entry)} times."


def engine_comes_from_an_exported_style(build: BuildSection | None, export: ExportSection) -> Iterator[str]:
    if build and build.style not in export.styles:
        yield f"[build] style: {build.style} is not among the exported styles ({', '.join(export.styles)})."


def capabilities_fit_the_flavor(build: BuildSection | None) -> Iterator[str]:
    if build and build.flavor == "tensorrt" and build.compute_capabilities:
        yield (
            "[build] compute_capabilities: flavor tensorrt builds for the GPU it runs on. "
            'Leave the key out, or take flavor = "rtx".'
        )


def profiles_ascend(build: BuildSection | None) -> Iterator[str]:
    for name, (least, usual, most) in build.profiles.items() if build else ():
        if not least <= usual <= most:
            yield f"[build] profiles.{name}: [least, usual, most] must ascend, not {[least, usual, most]}."


def trt_has_an_engine(check: CheckSection, build: BuildSection | None, bench: BenchSection | None) -> Iterator[str]:
    for table, runtimes in (("check", check.runtimes), ("bench", bench.runtimes if bench else ())):
        if build is None and (needing := [name for name in runtimes if RUNTIMES[name].opens == "engine"]):
            yield f"[{table}] runtimes: {needing[0]} needs an engine; add a [build] table."


def positions_fit_the_table(
    export: ExportSection, bench: BenchSection | None, generate: GenerateSection | None
) -> Iterator[str]:
    if export.max_position is None:
        return
    if bench and max(bench.prompts) + bench.new > export.max_position:
        yield (
            f"[bench]: prompt and new make {max(bench.prompts) + bench.new} positions, "
            f"but [export] max_position is {export.max_position}."
        )
    if generate and generate.new_tokens >= export.max_position:
        yield f"[generate] new_tokens: {generate.new_tokens} and a prompt exceed [export] max_position."


def latency_gate_has_a_benchmark(gates: GatesSection, bench: BenchSection | None) -> Iterator[str]:
    if gates.max_latency_ratio is not None and bench is None:
        yield "[gates] max_latency_ratio: nothing is timed; add a [bench] table."


def slowdown_has_a_baseline(gates: GatesSection, bench: BenchSection | None, export: ExportSection) -> Iterator[str]:
    if gates.max_slowdown is not None and not (bench and bench.baseline):
        yield "[gates] max_slowdown: there is nothing to hold it against; name a file in [bench] baseline."
    if bench and bench.baseline and bench.rounds is not None and bench.rounds < FEWEST_ROUNDS:
        yield (
            f"[bench] rounds: {bench.rounds} are too few to be held against a baseline; "
            f"it takes {FEWEST_ROUNDS} at least."
        )
    runtimes = bench.runtimes if bench else ()
    contestants = sum(len(export.styles) if RUNTIMES[name].opens == "artifact" else 1 for name in runtimes)
    if bench and bench.baseline and contestants < 2:
        yield "[bench] baseline: ratios relate two contestants; add a runtime to [bench] runtimes."


def decoding_has_a_cache(
    export: ExportSection, bench: BenchSection | None, generate: GenerateSection | None
) -> Iterator[str]:
    if bench and bench.new and not export.cache:
        yield "[bench] new: decoding is timed with the cache, and [export] cache is false; write new = 0."
    if generate and not export.cache:
        yield "[generate]: text is generated with the cache, and [export] cache is false."


def half_types_have_no_fixed_tolerances(model: ModelSection, check: CheckSection) -> Iterator[str]:
    for name in ("logits_tolerance", "rotated_tolerance"):
        if model.dtype != "float32" and getattr(check, name, None) is not None:
            yield (
                f"[check] {name}: a model in {model.dtype} is held against itself in float32, by the measure of "
                f"PyTorch's own {model.dtype} run. Leave it out; [gates] max_logits_error and max_rotated_error limit "
                "errors besides."
            )


RULES: tuple[tuple[Callable[..., Iterator[str]], tuple[str, ...]], ...] = (
    (model_is_named_once, ("model",)),
    (every_style_has_its_opset, ("export",)),
    (lists_have_each_entry_once, ("export", "check", "bench", "output")),
    (engine_comes_from_an_exported_style, ("build", "export")),
    (capabilities_fit_the_flavor, ("build",)),
    (profiles_ascend, ("build",)),
    (trt_has_an_engine, ("check", "build", "bench")),
    (positions_fit_the_table, ("export", "bench", "generate")),
    (latency_gate_has_a_benchmark, ("gates", "bench")),
    (slowdown_has_a_baseline, ("gates", "bench", "export")),
    (decoding_has_a_cache, ("export", "bench", "generate")),
    (half_types_have_no_fixed_tolerances, ("model", "check")),
)
