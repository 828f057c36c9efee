"""A loaded model in every style: traced once, written, and checked case by case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.common import StyleVariant
from conformance.families.record import StyleResult
from conformance.families.verdicts import Stop, guarded
from rope_deploy import api
from rope_deploy.artifact import Manifest, load_manifest
from rope_deploy.export import Prepared, prepare, write
from rope_deploy.models.example_inputs import Example
from rope_deploy.options import ExportOptions
from rope_deploy.parity import cases_for
from rope_deploy.results.records import CheckRecord
from rope_deploy.styles import STYLES

# What a graph is asked: its traced shape, other ones, one token, positions from the middle of the table (1024 where
# the table has 2048 rows), by strides of three, without order, paddings, and the cache.
CASES = (
    "prefill",
    "single-token",
    "prefill-batch",
    "prefill-left-padded",
    "offset-half",
    "offset-by-row",
    "strided",
    "shuffled",
    "long",
    "decode",
    "decode-batch",
    "decode-left-padded",
    "decode-strided",
    "chunked-prefill",
)
AT_A_THRESHOLD = ("below-", "beyond-", "across-", "decode-across-")


def traced(loaded, *, cache: bool = True, example: Example | None = None) -> Prepared:
    """The model as all styles share it, a tower made for `example`. Raises Stop."""
    return guarded(lambda: prepare(loaded, ExportOptions(cache=cache), example=example))


def in_styles(
    prepared: Prepared,
    styles: Sequence[str],
    folder: Path,
    *,
    cases: Sequence[str] = CASES,
    stage: Callable[[str], None] = lambda name: None,
) -> Iterator[StyleResult]:
    """What becomes of each style, written to `folder`/style and asked `cases` and those at a threshold.

    A style that fuses attention declares what that cannot do; where it kept a case from being asked, the style is
    written once more without it, to unfused/style beside `folder`, and asked them all.
    """
    one = partial(_one, prepared, cases=cases, stage=stage)
    for style in styles:
        yield (found := one(StyleVariant(style), folder / style))
        if found.skipped and STYLES[style].fuses_attention:
            yield one(StyleVariant(style, fused_attention=False), folder.with_name("unfused") / style)


def _one(
    prepared: Prepared, variant: StyleVariant, folder: Path, *, cases: Sequence[str], stage: Callable[[str], None]
) -> StyleResult:
    """One style, written and checked."""
    name, style, fused, began = variant.name, variant.style, variant.fused_attention, time.perf_counter()
    try:
        stage(f"write {name}")
        made = guarded(lambda: write(prepared, folder, style, fused_attention=fused, force=True))
        result = StyleResult(name, "green", sites=made.sites, nodes=made.nodes, export_s=round(made.seconds, 2))
        stage(f"check {name}")
        began, asked = time.perf_counter(), wanted(load_manifest(folder), cases)
        # This process is one family's own: what crashes it is that family's crash.
        report = guarded(lambda: api.check(folder, model=prepared.loaded, cases=asked, isolated=False))
    except Stop as stop:
        return StyleResult(name, stop.verdict, stop.reason)
    result.check_s = round(time.perf_counter() - began, 2)
    _enter(result, report.checks)
    if result.failed:
        first, message = next(iter(result.failed.items()))
        codes = "; ".join(sorted({one.code for one in report.diagnoses}))
        result.verdict, result.reason = "wrong", f"{first}: {message}" + (f" [{codes}]" if codes else "")
    elif not (fused and STYLES[style].fuses_attention) and (left := [case for case in asked if case in result.skipped]):
        result.verdict, result.reason = "refused", f"{left[0]}: {result.skipped[left[0]]}"
    return result


def wanted(manifest: Manifest, cases: Sequence[str] = CASES) -> list[str]:
    """The ids of the cases that this graph is asked; a tower has few."""
    if manifest.task == "tower":
        return [case.id for case in cases_for(manifest)]
    ids = [case.id for case in cases_for(manifest) if not case.refusal]
    return [name for name in ids if name in cases or name.startswith(AT_A_THRESHOLD)]


def _enter(result: StyleResult, checks: Iterable[CheckRecord]) -> None:
    for check in checks:
        if check.verdict == "passed":
            result.passed += 1
        else:
            (result.failed if check.verdict == "failed" else result.skipped)[check.case] = check.message
        result.logits_error = _larger(result.logits_error, check.logits_error)
        result.rotated_error = _larger(result.rotated_error, check.rotated_error)


def _larger(one: float | None, other: float | None) -> float | None:
    return max((error for error in (one, other) if error is not None), default=None)


def layouts(manifest: Manifest) -> list[str]:
    """How the rotations of a graph pair the elements of a head, as text."""
    widths = {site.rotation: site.head_dim for site in manifest.sites}
    found = set()
    for rotation in manifest.rotations:
        parts = ["interleaved" if rotation.interleaved else "half"] if rotation.rotary_dim else ["unknown"]
        rotated, width = rotation.rotary_dim, widths.get(rotation.name)
        if rotated and width and rotated < width:
            parts.append("partial")
        if rotation.axes:
            parts.append("several axes")
        if rotation.cos_sin == "computed":
            parts.append("by length")
        found.add(" ".join(parts))
    return sorted(found)
