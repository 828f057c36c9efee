"""`check`: every artifact, on every runtime asked for, against the PyTorch model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import Tolerances, changed_files, load_manifest
from rope_deploy.errors import RuntimeCrashed, UsageError, VendorError
from rope_deploy.parity import PROSE, Outcome, Set, cases_for
from rope_deploy.parity.audit import Audit
from rope_deploy.report.records import Report
from rope_deploy.runs.audit import audit_first
from rope_deploy.runs.candidate import Questions, check_one, unopened
from rope_deploy.runs.frame import Frame, Progress
from rope_deploy.runs.opened import Opened, artifact_folders, model_of, require_runtimes
from rope_deploy.runtimes import Remembering, open_torch

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
    progress: Progress = lambda step: None,
) -> Report:
    """Run the parity cases of the artifact in `folder` (or of each one inside it); see `rope_deploy.parity`.

    "torch" among `runtimes` adds nothing: PyTorch is always the reference, unless `reference` is False; then neither
    it nor transformers is loaded. `engine` is needed for "trt". Every other runtime has a process of its own, unless
    `isolated` is False. One artifact of several that cannot be opened has failed, and the others are checked; if it
    is the only one, what keeps it from opening is raised, before the model is loaded.
    """
    require_runtimes(runtimes, engine)
    if model is not None and not reference:
        raise UsageError("A check without reference needs no model.", todo="Leave out --model or --no-reference.")
    contestants = [name for name in runtimes if name != "torch"]
    artifacts, outcomes, notes = _sifted(folder, contestants, verify, progress)
    _require_known(only, artifacts)
    frame = Frame(f"Check of {folder}", artifacts[0].manifest.source)
    questions, audits = Questions(which, only, seed, tolerances), []
    with ExitStack() as stack:
        pytorch = None
        if reference:
            progress(f"Loading {artifacts[0].manifest.source if model is None else model}")
            loaded = model_of(artifacts, model, trust_remote_code=trust_remote_code)
            questions = replace(questions, text=prose(loaded))
            pytorch = stack.enter_context(Remembering(open_torch(loaded)))
        for opened in artifacts if not only else ():
            progress(f"Auditing {opened.manifest.style}")
            audits.append(audit_first(opened))
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
            sound.append(opened)
        except UsageError as error:
            errors.append(error)
            failed += [unopened(path.name, name, error, code) for name in runtimes]
    if not sound:
        raise errors[0]
    return sound, failed, notes


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
