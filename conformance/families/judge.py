"""One family from configuration to verdict: build, count, run, save, load, export, check."""

from __future__ import annotations

import datetime
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from conformance.families.census import Family
from conformance.families.check_styles import in_styles, layouts, traced
from conformance.families.count import count
from conformance.families.inputs import BATCH, LENGTH, possible_inputs, text
from conformance.families.record import Record, Verdict, code_digest, versions
from conformance.families.shrink import rules
from conformance.families.tiny import tiny_model
from conformance.families.verdicts import Stop, first_line, guarded, innermost
from rope_deploy import api
from rope_deploy.artifact import MANIFEST_NAME, load_manifest
from rope_deploy.export import Prepared
from rope_deploy.models import patched
from rope_deploy.models.example_inputs import Example, example_of

LIKE_THE_MODEL = 1e-5
LONG = 40  # more than the windows, chunks and choices of a tiny model
WITHOUT = "Its graph takes texts of the lengths of its example, all at once."


def judge(family: Family, styles: Sequence[str], work: Path, results: Path) -> Record:
    """The record of `family`, written to `results` after every stage; `work` is an empty folder for its files."""
    began = time.perf_counter()
    record = Record(family.name, family.category, family.model, versions=versions(), code=code_digest())
    record.date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")

    def stage(name: str) -> None:
        record.stage = name
        record.seconds = round(time.perf_counter() - began, 1)
        record.write(results)

    try:
        _judge(family, record, styles, work, stage)
    except Stop as stop:
        record.verdict, record.reason, record.where = stop.verdict, stop.reason, stop.where
    except Exception as error:  # the verdict says so
        record.verdict, record.reason, record.where = "crash", first_line(error), innermost(error)
    _forget(record, f"{work}/")
    stage(record.stage if record.verdict != "green" else "done")
    return record


def _forget(record: Record, folder: str) -> None:
    """Messages name files; where these were is of no interest."""
    record.reason, record.cached = record.reason.replace(folder, ""), record.cached.replace(folder, "")
    for result in record.styles.values():
        result.reason = result.reason.replace(folder, "")


def _judge(family: Family, record: Record, styles: Sequence[str], work: Path, stage: Callable[[str], None]) -> None:
    stage("build")
    model, given = _built(family, record)
    stage("run")
    answers = _run(model, given, record)
    stage("save and load")
    loaded = _reloaded(model, answers, work)
    stage("export")
    prepared = _prepared(loaded, record, example_of(given) if loaded.task == "tower" else None)
    for result in in_styles(prepared, styles, work / "exported", stage=stage):
        record.styles[result.style] = result
    if manifests := [path.parent for path in sorted(work.glob(f"exported/*/{MANIFEST_NAME}"))]:
        record.layouts = layouts(load_manifest(manifests[0]))
    _conclude(record)


def _built(family: Family, record: Record):
    try:
        model, given, record.paths = count(lambda: tiny_model(family), lambda made: possible_inputs(family, made))
    except ImportError as error:
        raise Stop("needs-package", first_line(error)) from error
    except Exception as error:  # transformers' code may raise anything
        raise Stop("unbuildable", first_line(error), innermost(error)) from error
    record.expected = len(record.paths)
    record.parameters = sum(parameter.numel() for parameter in model.parameters())
    config = model.config.get_text_config()
    record.rules = sorted({str(rule.get("rope_type", "default")) for rule in rules(_rope(config))})
    if not record.expected:
        raise Stop("no-rotation", "It applies no rotation.")
    return model, given


def _rope(config) -> Any:
    return getattr(config, "rope_parameters", None) or {"rope_type": "default"}


def _run(model, given: dict[str, Any], record: Record):
    """What the model is given and its answer, once or twice; whether it tells positions apart is noted."""
    import torch

    with torch.no_grad():
        output = model(**given)
        want = first_tensor(output)
        if not torch.isfinite(want).all():
            raise Stop("unbuildable", "Its logits are not finite.")
        record.spread = round(float(want.std()), 4)
        if "position_ids" in inspect.signature(model.forward).parameters and "input_ids" in given:
            strided = 3 * torch.arange(LENGTH).repeat(BATCH, 1)
            try:
                moved = first_tensor(model(**given, position_ids=strided)) - want
                record.felt = round(float(moved.abs().max()), 4)
            except Exception:  # it takes positions of another shape
                record.felt = None
    kept = getattr(output, "past_key_values", None)
    layers = getattr(getattr(kept, "self_attention_cache", kept), "layers", ())
    record.caches = sorted({type(layer).__name__ for layer in layers})
    return [(given, want), *_longer(model, given)]


def _longer(model, given: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """A text long enough for what reads only a part of it (indexers, windows, chunks), and the model's answer."""
    import torch

    if given.keys() == text().keys() & given.keys():
        more = {name: made for name, made in text(length=LONG, seed=2).items() if name in given}
        try:
            with torch.no_grad():
                answer = first_tensor(model(**more))
        except Exception:  # it takes fewer tokens
            return
        yield more, answer


def first_tensor(output):
    """The logits, or else the first numbers that a model gives."""
    if (logits := getattr(output, "logits", None)) is not None:
        return logits
    given = output if isinstance(output, (tuple, list)) else output.values()
    return next(one for one in given if hasattr(one, "is_floating_point") and one.is_floating_point())


def _reloaded(model, answers, work: Path):
    """The model as `rope-deploy` loads it from the folder that transformers writes."""
    import torch

    folder = work / "model"
    try:
        model.save_pretrained(folder)
    except Exception as error:  # transformers' code may raise anything
        raise Stop("unbuildable", f"It cannot be saved: {first_line(error)}", innermost(error)) from error
    loaded = guarded(lambda: api.load(str(folder)))
    for given, answer in answers:
        try:
            with torch.no_grad(), patched(loaded.model, "run"):
                got = first_tensor(loaded.model(**given))
        except Exception as error:  # the family's code with our attention in it
            raise Stop("crash", f"It does not run as loaded: {first_line(error)}", innermost(error)) from error
        difference = float((got - answer).abs().max()) if got.shape == answer.shape else float("inf")
        if not difference <= LIKE_THE_MODEL * max(1.0, float(answer.abs().max())):
            raise Stop("wrong", f"The model as loaded differs from the one saved by {difference:.2g}.")
    return loaded


def _prepared(loaded, record: Record, example: Example | None) -> Prepared:
    """The trace of all styles. A family whose cache cannot be exported is traced without one, which is noted."""
    decodes, began = loaded.task == "decoder", time.perf_counter()
    try:
        prepared = traced(loaded, example=example)
        record.cached = "yes" if decodes else WITHOUT if record.caches else ""
    except Stop as stop:
        if not decodes or stop.verdict not in ("refused", "crash"):
            raise
        record.cached, record.cached_where = stop.reason, stop.where
        began = time.perf_counter()
        prepared = traced(loaded, cache=False)
    record.trace_s = round(time.perf_counter() - began, 2)
    return prepared


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
