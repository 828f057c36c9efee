"""`check`: compare every artifact, on every runtime asked for, with the PyTorch model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import MODEL_NAME, changed_files, load_manifest
from rope_deploy.artifact.subject import artifact_folders, folders_of_stray_graphs
from rope_deploy.audit import Audit
from rope_deploy.errors import ConfigError, RuntimeCrashed, UsageError, VendorError
from rope_deploy.graph.reading.file_facts import read_facts
from rope_deploy.options import CheckOptions
from rope_deploy.parity import PROSE, Outcome, cases_for
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import Report
from rope_deploy.runs.artifact_audits import start_audits
from rope_deploy.runs.artifact_limits import report_limits, require_limits
from rope_deploy.runs.artifacts import Artifact
from rope_deploy.runs.check_runtime import CheckPlan, check_on_runtime, not_opened
from rope_deploy.runs.manifest_claims import against_graph, against_model, unlisted_files
from rope_deploy.runs.progress import Progress, silent
from rope_deploy.runs.reference_model import load_reference
from rope_deploy.runs.report_frame import Frame
from rope_deploy.runtimes import Memoized, open_torch

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel

WITHOUT_PYTORCH = (
    "Without PyTorch nobody compared results, values of the cache, or what the manifest says of its model: the rule, "
    "the number of layers and of positions, the vocabulary."
)
EXPORT_AGAIN = "Export the model again: no export writes such a manifest."


def check_artifacts(folder: Path, options: CheckOptions, *, progress: Progress = silent) -> Report:
    """Run the parity cases of the artifact in `folder` (or of each one inside it); see `rope_deploy.api.check`.

    Without `options.reference` neither PyTorch nor transformers is loaded. One artifact of several that cannot be
    opened has failed, and the others are checked; if it is the only one, what keeps it from opening is raised, before
    the model is loaded.
    """
    artifacts, outcomes, notes = _checkable(folder, options, progress)
    _require_known_cases(options.cases, artifacts)
    require_limits(options.allow_limits)
    require_codes(options.accept)
    title = f"Check of {folder}" if options.reference else f"Check of {folder}, without PyTorch"
    frame = Frame(title, artifacts[0].manifest.source, "check")
    plan = CheckPlan(options)
    audits: list[Audit] = []
    with ExitStack() as stack:
        pytorch, reach = None, None
        # Beside the loading of the model, which takes longer.
        pool = stack.enter_context(ThreadPoolExecutor(1))
        pending = {} if options.cases else start_audits(artifacts, pool, trusted=options.reference)
        if options.reference:
            progress(f"Loading {artifacts[0].manifest.source if options.model is None else options.model}")
            loaded = load_reference(artifacts, options.model, trust_remote_code=options.trust_remote_code)
            plan = replace(plan, text=tokens_of_prose(loaded))
            reach = max((spec.reach for spec in loaded.specs.values()), default=None)
            artifacts, untrue = _true_of_model(artifacts, loaded, options.compared)
            outcomes += untrue
            pytorch = stack.enter_context(Memoized(open_torch(loaded)))
            if options.model is None:
                notes.append(f"Compared with {artifacts[0].manifest.source}, which the manifest names.")
        else:
            notes.append(WITHOUT_PYTORCH)
        for artifact in artifacts if pending else ():
            progress(f"Auditing {artifact.manifest.style}")
            audits.append(pending[artifact.folder].result())
        for artifact in artifacts:
            limits = report_limits(artifact.manifest, reach, allowed=options.allow_limits)
            outcomes += [Outcome((limits.record,), (), limits.diagnoses)] if limits else []
            notes += [limits.note] if limits else []
        pairs = [(artifact, name) for artifact in artifacts for name in options.compared]
        for artifact, name in pairs:
            try:
                outcome = check_on_runtime(artifact, pytorch, name, plan, options.engine, progress=progress)
            except (UsageError, VendorError) as error:
                if len(pairs) + len(outcomes) == 1 and not isinstance(error, RuntimeCrashed):
                    raise
                outcome = not_opened(artifact.manifest.style, name, error)
            outcomes.append(outcome)
    results = {name: (*_of_audits(audits, name), *found) for name, found in results_of(outcomes).items()}
    notes += [plan.summary(), *dict.fromkeys(_of_audits(audits, "notes"))]
    return frame.report(notes=tuple(notes), **results)


def results_of(outcomes: Sequence[Outcome]) -> dict[str, tuple]:
    """Collect the records of outcomes under the names that a report has for them."""
    return {
        "checks": tuple(record for outcome in outcomes for record in outcome.records),
        "diagnoses": tuple(record for outcome in outcomes for record in outcome.diagnoses),
        "curves": tuple(curve for outcome in outcomes for curve in outcome.curves),
        "maps": tuple(found for outcome in outcomes for found in outcome.maps),
    }


def _of_audits(audits: Sequence[Audit], name: str) -> tuple:
    """Collect the records of audits under the name that a report has for them; audits have no curves."""
    return tuple(record for audit in audits for record in getattr(audit, name, ()))


def tokens_of_prose(loaded: LoadedModel) -> Sequence[int]:
    """Token ids of a natural text; none for a model without a tokenizer, which is then fed random ones."""
    return loaded.tokenizer(PROSE)["input_ids"] if loaded.tokenizer is not None else ()


def _checkable(
    folder: Path, options: CheckOptions, progress: Progress
) -> tuple[list[Artifact], list[Outcome], list[str]]:
    """The artifacts that can be checked, the failures of the others, and notes on changed files that are checked.

    Raises what is wrong with the first, if none can be checked.
    """
    sound: list[Artifact] = []
    failed: list[Outcome] = []
    notes: list[str] = []
    errors: list[UsageError] = []
    for path in folders_of_stray_graphs(folder):
        error = UsageError(
            f"{path} holds a graph, and is no artifact directly inside {folder}.",
            todo="Export it again, check it alone, or take it away.",
        )
        failed += [not_opened(path.name, name, error) for name in options.compared]
    for path in artifact_folders(folder):
        code = ""
        try:
            artifact = Artifact(path, load_manifest(path))
            if changed := changed_files(path, artifact.manifest):
                code, message = "RD606", f"{path} is not what was exported: {', '.join(changed)} missing or changed."
                if not options.ignore_hashes:
                    todo = "Export the model again, restore the files, or check them as they are: --ignore-hashes."
                    raise UsageError(message, todo=todo)
                progress(message)
                notes.append(f"{message} It was checked as it is.")
            code = "RD607"
            if faults := list(against_graph(artifact.manifest, read_facts(path / MODEL_NAME))):
                raise ConfigError(f"The manifest of {path} is not true of its graph:", faults, todo=EXPORT_AGAIN)
            if extra := unlisted_files(path, artifact.manifest):
                notes.append(f"{path.name}: not listed in the manifest: {', '.join(extra)}.")
            sound.append(artifact)
        except UsageError as error:
            errors.append(error)
            failed += [not_opened(path.name, name, error, code) for name in options.compared]
    if not sound:
        raise errors[0]
    return sound, failed, notes


def _true_of_model(
    artifacts: Sequence[Artifact], loaded: LoadedModel, runtimes: Sequence[str]
) -> tuple[list[Artifact], list[Outcome]]:
    """The artifacts whose manifests are true of the model, and the failures of the others."""
    sound, failed, errors = [], [], []
    for artifact in artifacts:
        if faults := list(against_model(artifact.manifest, loaded)):
            message = f"The manifest of {artifact.folder} is not true of {loaded.source}:"
            errors.append(ConfigError(message, faults, todo=EXPORT_AGAIN))
            failed += [not_opened(artifact.manifest.style, name, errors[-1], "RD607") for name in runtimes]
        else:
            sound.append(artifact)
    if not sound:
        raise errors[0]
    return sound, failed


def _require_known_cases(cases: Collection[str], artifacts: Sequence[Artifact]) -> None:
    """Raise UsageError for a case that none of the artifacts has."""
    known = dict.fromkeys(case.id for artifact in artifacts for case in cases_for(artifact.manifest))
    if strange := sorted(set(cases) - set(known)):
        raise UsageError(f"There is no case {', '.join(strange)}.", exists=f"Cases: {', '.join(known)}.")
