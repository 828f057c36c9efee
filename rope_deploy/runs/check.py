"""`check`: every artifact, on every runtime asked for, against the PyTorch model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import MODEL_NAME, Tolerances, changed_files, load_manifest
from rope_deploy.audit import Audit
from rope_deploy.errors import ConfigError, RuntimeCrashed, UsageError, VendorError
from rope_deploy.graph.reading.file_facts import read_facts
from rope_deploy.parity import PROSE, Outcome, Set, cases_for
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import Report
from rope_deploy.runs.artifact_limits import limits_of, require_limits
from rope_deploy.runs.audit import first_audits
from rope_deploy.runs.check_runtime import Questions, check_one, unopened
from rope_deploy.runs.manifest_claims import against_graph, against_model, unlisted
from rope_deploy.runs.open_artifact import Opened, artifact_folders, model_of, passed_over, require_runtimes
from rope_deploy.runs.report_frame import Frame, Progress
from rope_deploy.runtimes import CHECKED, Memoized, open_torch

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel


def check_artifacts(
    folder: Path,
    *,
    runtimes: Sequence[str] = ("ort",),
    model: str | LoadedModel | None = None,
    engine: Path | None = None,
    only: Collection[str] = (),
    which: Set = "full",
    seed: int = 0,
    tolerances: Tolerances | None = None,
    verify: bool = True,
    reference: bool = True,
    isolated: bool = True,
    trust_remote_code: bool = False,
    allow_limits: Collection[str] = (),
    accept: Collection[str] = (),
    progress: Progress = lambda step: None,
) -> Report:
    """Run the parity cases of the artifact in `folder` (or of each one inside it); see `rope_deploy.parity`.

    "torch" among `runtimes` adds nothing: PyTorch is always the reference, unless `reference` is False; then neither
    it nor transformers is loaded. `engine` is needed for "trt". Every other runtime has a process of its own, unless
    `isolated` is False. One artifact of several that cannot be opened has failed, and the others are checked; if it
    is the only one, what keeps it from opening is raised, before the model is loaded. `allow_limits` names limits of
    the artifact that are known of, see `runs.limits`; `accept` codes of mistakes that were accepted at the export.
    """
    require_runtimes(runtimes, engine, CHECKED)
    if model is not None and not reference:
        raise UsageError("A check without reference needs no model.", todo="Leave out --model or --no-reference.")
    contestants = [name for name in runtimes if name != "torch"]
    if not contestants:
        raise UsageError(
            "PyTorch is what others are compared with: nothing would be run.",
            exists=f"Runtimes to compare: {', '.join(name for name in CHECKED if name != 'torch')}.",
        )
    artifacts, outcomes, notes = _sifted(folder, contestants, verify, progress)
    _require_known(only, artifacts)
    require_limits(allow_limits)
    title = f"Check of {folder}" if reference else f"Check of {folder}, without PyTorch"
    frame = Frame(title, artifacts[0].manifest.source, "check")
    questions = Questions(which, only, seed, tolerances, accept=require_codes(accept))
    audits: list[Audit] = []
    with ExitStack() as stack:
        pytorch, reach = None, None
        # Beside the loading of the model, which takes longer.
        pool = stack.enter_context(ThreadPoolExecutor(1))
        pending = {} if only else first_audits(artifacts, pool, trusted=reference)
        if reference:
            progress(f"Loading {artifacts[0].manifest.source if model is None else model}")
            loaded = model_of(artifacts, model, trust_remote_code=trust_remote_code)
            questions = replace(questions, text=prose(loaded))
            reach = max((spec.reach for spec in loaded.specs.values()), default=None)
            artifacts, untrue = _true(artifacts, loaded, contestants)
            outcomes += untrue
            pytorch = stack.enter_context(Memoized(open_torch(loaded)))
            if model is None:
                notes.append(f"Compared with {artifacts[0].manifest.source}, which the manifest names.")
        else:
            notes.append(UNSEEN)
        for opened in artifacts if pending else ():
            progress(f"Auditing {opened.manifest.style}")
            audits.append(pending[opened.folder].result())
        for opened in artifacts:
            limited = limits_of(opened.manifest, reach, allowed=allow_limits)
            outcomes += [Outcome((limited.record,), (), limited.diagnoses)] if limited else []
            notes += [limited.note] if limited else []
        pairs = [(opened, name) for opened in artifacts for name in contestants]
        for opened, name in pairs:
            try:
                outcome = check_one(opened, pytorch, name, questions, engine, isolated=isolated, progress=progress)
            except (UsageError, VendorError) as error:
                if len(pairs) + len(outcomes) == 1 and not isinstance(error, RuntimeCrashed):
                    raise
                outcome = unopened(opened.manifest.style, name, error)
            outcomes.append(outcome)
    found = {name: (*records(audits, name), *seen) for name, seen in results(outcomes).items()}
    notes += [questions.words(), *dict.fromkeys(records(audits, "notes"))]
    return frame.report(notes=tuple(notes), **found)


UNSEEN = (
    "Without PyTorch nobody compared results, values of the cache, or what the manifest says of its model: the rule, "
    "the number of layers and of positions, the vocabulary."
)


def records(audits: Sequence[Audit], name: str) -> tuple:
    """What static audits say, under the name that a report has for it; they draw no curves."""
    return tuple(record for audit in audits for record in getattr(audit, name, ()))


def _sifted(
    folder: Path, runtimes: Sequence[str], verify: bool, progress: Progress
) -> tuple[list[Opened], list[Outcome], list[str]]:
    """The artifacts that can be checked, what became of the others, and notes on changed files that are checked.

    Raises what is wrong with the first, if none can be checked.
    """
    sound, failed, notes, errors = [], [], [], []
    for path in passed_over(folder):
        error = UsageError(
            f"{path} holds a graph, and is no artifact directly inside {folder}.",
            todo="Export it again, check it alone, or take it away.",
        )
        failed += [unopened(path.name, name, error) for name in runtimes]
    for path in artifact_folders(folder):
        code = ""
        try:
            opened = Opened(path, load_manifest(path))
            if changed := changed_files(path, opened.manifest):
                code, said = "RD606", f"{path} is not what was exported: {', '.join(changed)} missing or changed."
                if verify:
                    todo = "Export the model again, restore the files, or check them as they are: --ignore-hashes."
                    raise UsageError(said, todo=todo)
                progress(said)
                notes.append(f"{said} It was checked as it is.")
            code = "RD607"
            if faults := list(against_graph(opened.manifest, read_facts(path / MODEL_NAME))):
                raise ConfigError(f"The manifest of {path} is not true of its graph:", faults, todo=EXPORT)
            if extra := unlisted(path, opened.manifest):
                notes.append(f"{path.name}: not listed in the manifest: {', '.join(extra)}.")
            sound.append(opened)
        except UsageError as error:
            errors.append(error)
            failed += [unopened(path.name, name, error, code) for name in runtimes]
    if not sound:
        raise errors[0]
    return sound, failed, notes


EXPORT = "Export the model again: no export writes such a manifest."


def _true(
    artifacts: Sequence[Opened], loaded: LoadedModel, runtimes: Sequence[str]
) -> tuple[list[Opened], list[Outcome]]:
    """The artifacts whose manifests are true of the model, and what became of the others."""
    sound, failed, errors = [], [], []
    for opened in artifacts:
        if faults := list(against_model(opened.manifest, loaded)):
            errors.append(
                ConfigError(f"The manifest of {opened.folder} is not true of {loaded.source}:", faults, todo=EXPORT)
            )
            failed += [unopened(opened.manifest.style, name, errors[-1], "RD607") for name in runtimes]
        else:
            sound.append(opened)
    if not sound:
        raise errors[0]
    return sound, failed


def _require_known(only: Collection[str], artifacts: Sequence[Opened]) -> None:
    """Raise UsageError for a case that none of the artifacts has."""
    known = dict.fromkeys(case.id for opened in artifacts for case in cases_for(opened.manifest))
    if strange := sorted(set(only) - set(known)):
        raise UsageError(f"There is no case {', '.join(strange)}.", exists=f"Cases: {', '.join(known)}.")


def results(outcomes: Sequence[Outcome]) -> dict[str, tuple]:
    """What outcomes say, under the names that a report has for it."""
    return {
        "checks": tuple(record for outcome in outcomes for record in outcome.records),
        "diagnoses": tuple(record for outcome in outcomes for record in outcome.diagnoses),
        "curves": tuple(curve for outcome in outcomes for curve in outcome.curves),
        "maps": tuple(found for outcome in outcomes for found in outcome.maps),
    }


def prose(loaded: LoadedModel) -> Sequence[int]:
    """Token ids of a natural text; none for a model without a tokenizer, which is then fed random ones."""
    return loaded.tokenizer(PROSE)["input_ids"] if loaded.tokenizer is not None else ()
