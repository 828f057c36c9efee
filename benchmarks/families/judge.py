"""One family from configuration to verdict: build, count, run, save, load, export, check."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.families.census import Family
from benchmarks.families.count import count
from benchmarks.families.inputs import BATCH, LENGTH, candidates
from benchmarks.families.record import Record, StyleResult, Verdict, code_digest, versions
from benchmarks.families.shrink import rules
from benchmarks.families.tiny import tiny_model
from rope_deploy import api
from rope_deploy.artifact import Manifest, load_manifest
from rope_deploy.errors import EnvironmentMissing, RopeDeployError
from rope_deploy.report.records import CheckRecord, ExportRecord

# What a family is asked: its traced shape, other ones, one token, positions from the middle of the table (1024 where
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
LIKE_THE_MODEL = 1e-5


class _Stop(Exception):
    """The verdict is clear."""

    def __init__(self, verdict: Verdict, reason: str, where: str = ""):
        super().__init__(reason)
        self.verdict, self.reason, self.where = verdict, reason, where


def judge(family: Family, styles: Sequence[str], work: Path, results: Path) -> Record:
    """The record of `family`, written to `results` after every stage; `work` is an empty folder for its files."""
    began = time.perf_counter()
    record = Record(family.name, family.category, family.model, versions=versions(), code=code_digest())

    def stage(name: str) -> None:
        record.stage = name
        record.seconds = round(time.perf_counter() - began, 1)
        record.write(results)

    try:
        _judge(family, record, styles, work, stage)
    except _Stop as stop:
        record.verdict, record.reason, record.where = stop.verdict, stop.reason, stop.where
    except Exception as error:  # the verdict says so
        record.verdict, record.reason, record.where = "crash", first_line(error), innermost(error)
    _forget(record, f"{work}/")
    stage(record.stage if record.verdict != "green" else "done")
    return record


def _forget(record: Record, place: str) -> None:
    """Messages name files; where these were is of no interest."""
    record.reason, record.cached = record.reason.replace(place, ""), record.cached.replace(place, "")
    for result in record.styles.values():
        result.reason = result.reason.replace(place, "")


def _judge(family: Family, record: Record, styles: Sequence[str], work: Path, stage: Callable[[str], None]) -> None:
    stage("build")
    model, given = _built(family, record)
    stage("run")
    want = _run(model, given, record)
    stage("save and load")
    loaded = _reloaded(model, want, work)
    stage("export")
    exported = _exported(loaded, record, styles, work / "exported")
    for style, folder in exported.items():
        stage(f"check {style}")
        _check(record.styles[style], folder, loaded)
    _conclude(record)


def _built(family: Family, record: Record):
    try:
        model, given, record.places = count(lambda: tiny_model(family), lambda made: candidates(family, made))
    except ImportError as error:
        raise _Stop("needs-package", first_line(error)) from error
    except Exception as error:  # transformers' code may raise anything
        raise _Stop("unbuildable", first_line(error), innermost(error)) from error
    record.expected = len(record.places)
    record.parameters = sum(parameter.numel() for parameter in model.parameters())
    config = model.config.get_text_config()
    record.rules = sorted({str(rule.get("rope_type", "default")) for rule in rules(_rope(config))})
    if not record.expected:
        raise _Stop("no-rotation", "It applies no rotation.")
    return model, given


def _rope(config) -> Any:
    return getattr(config, "rope_parameters", None) or {"rope_type": "default"}


def _run(model, given: dict[str, Any], record: Record):
    """The model's answer to what it is given; whether it tells positions apart is noted."""
    import torch

    with torch.no_grad():
        output = model(**given)
        want = first_tensor(output)
        if not torch.isfinite(want).all():
            raise _Stop("unbuildable", "Its logits are not finite.")
        record.spread = round(float(want.std()), 4)
        if "position_ids" in inspect.signature(model.forward).parameters and "input_ids" in given:
            strided = 3 * torch.arange(LENGTH).repeat(BATCH, 1)
            try:
                moved = first_tensor(model(**given, position_ids=strided)) - want
                record.felt = round(float(moved.abs().max()), 4)
            except Exception:  # it takes positions of another shape
                record.felt = None
    layers = getattr(getattr(output, "past_key_values", None), "layers", ())
    record.caches = sorted({type(layer).__name__ for layer in layers})
    return given, want


def first_tensor(output):
    """The logits, or else the first numbers that a model gives."""
    if (logits := getattr(output, "logits", None)) is not None:
        return logits
    given = output if isinstance(output, (tuple, list)) else output.values()
    return next(one for one in given if hasattr(one, "is_floating_point") and one.is_floating_point())


def _reloaded(model, want, work: Path):
    """The model as `rope-deploy` loads it from the folder that transformers writes."""
    import torch

    folder = work / "model"
    try:
        model.save_pretrained(folder)
    except Exception as error:  # transformers' code may raise anything
        raise _Stop("unbuildable", f"It cannot be saved: {first_line(error)}", innermost(error)) from error
    loaded = _guarded(lambda: api.load(str(folder)))
    given, answer = want
    try:
        with torch.no_grad():
            got = first_tensor(loaded.model(**given))
    except Exception as error:  # the family's code with our attention in it
        raise _Stop("crash", f"It does not run as loaded: {first_line(error)}", innermost(error)) from error
    difference = float((got - answer).abs().max()) if got.shape == answer.shape else float("inf")
    if not difference <= LIKE_THE_MODEL * max(1.0, float(answer.abs().max())):
        raise _Stop("wrong", f"The model as loaded differs from the one saved by {difference:.2g}.")
    return loaded


def _guarded(action: Callable[[], Any]) -> Any:
    """What `action` returns; its errors as verdicts."""
    try:
        return action()
    except EnvironmentMissing as error:
        raise _Stop("needs-package", error.asked) from error
    except RopeDeployError as error:
        raise _Stop("refused", " ".join(str(error).split()), innermost(error)) from error
    except Exception as error:  # a refusal has a reason; this is none
        raise _Stop("crash", first_line(error), innermost(error)) from error


def _exported(loaded, record: Record, styles: Sequence[str], folder: Path) -> dict[str, Path]:
    """The folder of every style that could be exported; the others are entered in the record.

    A family whose cache cannot be exported is exported without one, which is noted.
    """
    decodes, began = loaded.task == "decoder", time.perf_counter()
    try:
        made = _at_once(loaded, styles, folder, cache=True)
        record.cached = "yes" if decodes else ""
    except _Stop as stop:
        if not decodes or stop.verdict not in ("refused", "crash"):
            raise
        record.cached, record.cached_where = stop.reason, stop.where
        began = time.perf_counter()
        made = _at_once(loaded, styles, folder, cache=False)
    written = sum(result.seconds for result in made.values() if not isinstance(result, _Stop))
    record.trace_s = round(time.perf_counter() - began - written, 2)
    paths = {}
    for style, result in made.items():
        if isinstance(result, _Stop):
            record.styles[style] = StyleResult(style, result.verdict, result.reason)
        else:
            paths[style] = Path(result.folder)
            record.styles[style] = StyleResult(
                style, "green", sites=result.sites, nodes=result.nodes, export_s=round(result.seconds, 2)
            )
    if paths:
        record.layouts = layouts(load_manifest(next(iter(paths.values()))))
    return paths


def layouts(manifest: Manifest) -> list[str]:
    """How the rotations of a graph pair the elements of a head, in words."""
    widths = {site.spec: site.head_dim for site in manifest.sites}
    found = set()
    for rotation in manifest.rotations:
        words = ["interleaved" if rotation.spec.get("interleaved") else "half"] if rotation.spec else ["unknown"]
        turned, width = rotation.spec.get("rotary_dim"), widths.get(rotation.name)
        if turned and width and turned < width:
            words.append("partial")
        if rotation.source == "runtime":
            words.append("by length")
        found.add(" ".join(words))
    return sorted(found)


def _at_once(loaded, styles: Sequence[str], folder: Path, *, cache: bool) -> dict[str, ExportRecord | _Stop]:
    """All styles from one trace; where one of them fails, each by itself."""
    places = {style: folder / style if len(styles) > 1 else folder for style in styles}
    try:
        records = _guarded(lambda: api.export(loaded, folder, styles=styles, cache=cache, force=True))
        return dict(zip(places, records, strict=True))
    except _Stop:
        if len(styles) == 1:
            raise
    found: dict[str, ExportRecord | _Stop] = {}
    for style, place in places.items():
        try:
            made = _guarded(partial(api.export, loaded, place, styles=(style,), cache=cache, force=True))
            found[style] = made[0]
        except _Stop as stop:
            found[style] = stop
    if all(isinstance(one, _Stop) for one in found.values()):
        raise next(iter(found.values()))
    return found


def _check(result: StyleResult, folder: Path, loaded) -> None:
    began = time.perf_counter()
    manifest = load_manifest(folder)
    try:
        report = _guarded(lambda: api.check(folder, model=loaded, cases=wanted(manifest)))
    except _Stop as stop:
        result.verdict, result.reason = stop.verdict, stop.reason
        return
    result.check_s = round(time.perf_counter() - began, 2)
    _enter(result, report.checks)
    if result.failed:
        first, said = next(iter(result.failed.items()))
        named = "; ".join(sorted({one.code for one in report.diagnoses}))
        result.verdict, result.reason = "wrong", f"{first}: {said}" + (f" [{named}]" if named else "")


def wanted(manifest: Manifest) -> list[str]:
    """The ids of the cases that this graph is asked."""
    from rope_deploy.parity.cases import cases_for

    ids = [case.id for case in cases_for(manifest) if not case.refusal]
    return [name for name in ids if name in CASES or name.startswith(AT_A_THRESHOLD)]


def _enter(result: StyleResult, checks: Sequence[CheckRecord]) -> None:
    for check in checks:
        if check.verdict == "passed":
            result.passed += 1
        else:
            (result.failed if check.verdict == "failed" else result.skipped)[check.case] = check.message
    result.logits_error = _largest(check.logits_error for check in checks)
    result.rotated_error = _largest(check.rotated_error for check in checks)


def _largest(errors) -> float | None:
    found = [error for error in errors if error is not None]
    return max(found, default=None)


def _conclude(record: Record) -> None:
    """The family's verdict is that of its worst style; then all its rotations must be accounted for."""
    for result in record.styles.values():
        if result.verdict == "green" and result.sites != record.expected:
            result.verdict = "sites"
            result.reason = f"PyTorch rotates {record.expected} times, the graph {result.sites} times."
    order: tuple[Verdict, ...] = ("wrong", "crash", "sites", "refused", "needs-package", "green")
    worst = min(record.styles.values(), key=lambda result: order.index(result.verdict))
    record.verdict, record.reason = worst.verdict, worst.reason
    if record.verdict == "green" and record.caches and record.cached not in ("", "yes"):
        record.verdict, record.reason, record.where = "uncached", record.cached, record.cached_where


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else '(no message)'}"


def innermost(error: BaseException) -> str:
    """Where it was raised first: file:line of the deepest frame, and of the deepest one in rope_deploy."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "rope_deploy" in frame.filename]
    shown = [*ours[-1:], *frames[-1:]] if ours and frames[-1:] != ours[-1:] else frames[-1:]
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(shown))


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])
