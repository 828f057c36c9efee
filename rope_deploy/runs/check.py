"""`check`: every artifact, on every runtime asked for, against the PyTorch model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import Tolerances
from rope_deploy.errors import UsageError
from rope_deploy.parity import PROSE, Outcome, Set, check
from rope_deploy.parity.audit import Audit
from rope_deploy.report.records import Report
from rope_deploy.runs.audit import audit_first
from rope_deploy.runs.frame import Frame, Progress
from rope_deploy.runs.opened import Opened, model_of, open_artifacts, require_runtimes
from rope_deploy.runtimes import Remembering, Runtime, open_ort, open_torch, open_trt

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel


@dataclass(frozen=True)
class Questions:
    """What every runtime is asked: a set of cases, or `only` those named; the seed; tolerances other than the
    manifest's; `text` is what is fed, as token ids."""

    which: Set = "full"
    only: Collection[str] = ()
    seed: int = 0
    tolerances: Tolerances | None = None
    text: Sequence[int] = ()

    def words(self) -> str:
        """For the report: which cases these are, and how to see one of them again."""
        chosen = "the cases asked for" if self.only else f"the {self.which} set of cases"
        return f"Checked: {chosen}, seed {self.seed}. One alone: `check DIR --case ID --seed {self.seed}`."


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
    trust_remote_code: bool = False,
    progress: Progress = lambda step: None,
) -> Report:
    """Run the parity cases of the artifact in `folder` (or of each one inside it); see `rope_deploy.parity`.

    "torch" among `runtimes` adds nothing: PyTorch is always the reference, unless `reference` is False; then neither
    it nor transformers is loaded. `engine` is needed for "trt".
    """
    require_runtimes(runtimes, engine)
    if model is not None and not reference:
        raise UsageError("A check without reference needs no model.", todo="Leave out --model or --no-reference.")
    artifacts = open_artifacts(folder)
    frame = Frame(f"Check of {folder}", artifacts[0].manifest.source)
    questions, outcomes, audits = Questions(which, only, seed, tolerances), [], []
    with ExitStack() as opened_models:
        pytorch = None
        if reference:
            progress(f"Loading {artifacts[0].manifest.source if model is None else model}")
            loaded = model_of(artifacts, model, trust_remote_code=trust_remote_code)
            questions = replace(questions, text=prose(loaded))
            pytorch = opened_models.enter_context(Remembering(open_torch(loaded)))
        for opened in artifacts:
            if not only:
                progress(f"Auditing {opened.manifest.style}")
                audits.append(audit_first(opened))
            for name in runtimes:
                if name != "torch":
                    outcomes.append(
                        check_one(opened, pytorch, name, questions, engine, verify=verify, progress=progress)
                    )
    found = {name: (*records(audits, name), *seen) for name, seen in results(outcomes).items()}
    return frame.report(notes=(questions.words(), *dict.fromkeys(records(audits, "notes"))), **found)


def records(audits: Sequence[Audit], name: str) -> tuple:
    """What static audits say, under the name that a report has for it; they draw no curves."""
    return tuple(record for audit in audits for record in getattr(audit, name, ()))


def results(outcomes: Sequence[Outcome]) -> dict[str, tuple]:
    """What outcomes say, under the names that a report has for it."""
    return {
        "checks": tuple(record for outcome in outcomes for record in outcome.records),
        "diagnoses": tuple(record for outcome in outcomes for record in outcome.diagnoses),
        "curves": tuple(curve for outcome in outcomes for curve in outcome.curves),
        "maps": tuple(found for outcome in outcomes for found in outcome.maps),
    }


def check_one(
    opened: Opened,
    reference: Runtime | None,
    runtime: str,
    questions: Questions,
    engine: Path | None = None,
    *,
    verify: bool = True,
    progress: Progress = lambda step: None,
) -> Outcome:
    """The parity cases of one artifact on one runtime; the runtime is open only meanwhile."""
    manifest = replace(opened.manifest, tolerances=questions.tolerances or opened.manifest.tolerances)
    with _open(opened, runtime, engine, verify) as candidate:
        return check(
            manifest,
            reference,
            candidate,
            only=questions.only,
            which=questions.which,
            seed=questions.seed,
            text=questions.text,
            progress=lambda record: progress(f"Checking {manifest.style} on {runtime}: {record.case} {record.verdict}"),
        )


def prose(loaded: LoadedModel) -> Sequence[int]:
    """Token ids of a natural text; none for a model without a tokenizer, which is then fed random ones."""
    return loaded.tokenizer(PROSE)["input_ids"] if loaded.tokenizer is not None else ()


def _open(opened: Opened, runtime: str, engine: Path | None, verify: bool) -> Runtime:
    if runtime == "trt":
        return open_trt(engine, opened.manifest)
    return open_ort(opened.folder, taps=True, verify=verify)
