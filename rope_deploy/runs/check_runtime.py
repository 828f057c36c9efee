"""One artifact on one runtime: opened, asked every question, closed again; or the reason why it would not open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rope_deploy.artifact import Manifest, Tolerances
from rope_deploy.errors import RopeDeployError, RuntimeCrashed, UsageError, VendorError
from rope_deploy.graph.analysis.vocabulary import with_vocabulary
from rope_deploy.parity import Outcome, Set, cases_for, check
from rope_deploy.parity.stored_tables import tables_without_rule
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import CheckRecord, DiagnosisRecord
from rope_deploy.runs.manifest_claims import demanded
from rope_deploy.runs.open_artifact import Opened
from rope_deploy.runs.report_frame import Progress
from rope_deploy.runtimes import Runtime, Target, open_in_child, open_runtime


@dataclass(frozen=True)
class Questions:
    """What every runtime is asked: a set of cases, or `only` those named; the seed; the command's tolerances,
    None for those of the dtype (a manifest's are never asked); `text` is what is fed, as token ids."""

    which: Set = "full"
    only: Collection[str] = ()
    seed: int = 0
    tolerances: Tolerances | None = None
    text: Sequence[int] = ()
    accept: Collection[str] = ()

    def words(self) -> str:
        """For the report: which cases these are, and how to see one of them again."""
        chosen = "the cases asked for" if self.only else f"the {self.which} set of cases"
        return f"Checked: {chosen}, seed {self.seed}. One alone: `check DIR --case ID --seed {self.seed}`."


def check_one(
    opened: Opened,
    reference: Runtime | None,
    runtime: str,
    questions: Questions,
    engine: Path | None = None,
    *,
    isolated: bool = True,
    progress: Progress = lambda step: None,
) -> Outcome:
    """The parity cases of one artifact on one runtime, which is open only meanwhile; its files are taken as they are.

    Raises what keeps the runtime from opening, RuntimeCrashed if it dies of it.
    """
    manifest = with_vocabulary(demanded(opened.manifest, questions.tolerances), opened.folder)
    manifest = _accepting(manifest, questions.accept)
    only = set(questions.only) & {case.id for case in cases_for(manifest)}
    if questions.only and not only:
        return Outcome((), ())  # the case is another style's
    with _open(opened, runtime, engine, isolated) as candidate:
        return check(
            manifest,
            reference,
            candidate,
            only=only,
            which=questions.which,
            seed=questions.seed,
            text=questions.text,
            stored={} if reference is not None else tables_without_rule(opened.folder, manifest),
            progress=lambda record: progress(f"Checking {manifest.style} on {runtime}: {record.case} {record.verdict}"),
        )


def _accepting(manifest: Manifest, accept: Collection[str]) -> Manifest:
    """Rotations that stray from their rule in an accepted way are judged without it: by PyTorch's own angles.

    What the manifest calls accepted is so only if whoever runs the check says the same.
    """
    strayed = {finding.message.split(":")[0] for finding in manifest.findings if finding.accepted in (*accept,)}
    rotations = (replace(one, spec={}) if one.name in strayed else one for one in manifest.rotations)
    return replace(manifest, rotations=tuple(rotations))


def attempt(
    opened: Opened,
    reference: Runtime | None,
    runtime: str,
    questions: Questions,
    engine: Path | None = None,
    *,
    progress: Progress = lambda step: None,
) -> Outcome:
    """The same, failed where the runtime does not open; only EnvironmentMissing is raised."""
    try:
        return check_one(opened, reference, runtime, questions, engine, progress=progress)
    except (UsageError, VendorError) as error:
        return unopened(opened.manifest.style, runtime, error)


def _open(opened: Opened, runtime: str, engine: Path | None, isolated: bool) -> Runtime:
    engine = engine.resolve() if engine else None
    target = Target(folder=opened.folder.resolve(), engine=engine, taps=True)
    if isolated:
        return open_in_child(runtime, target)
    return open_runtime(runtime, replace(target, manifest=opened.manifest))


def unopened(style: str, runtime: str, error: RopeDeployError, code: str = "") -> Outcome:
    """An artifact that could not be checked has failed; `code` names the reason if it has one."""
    code = "RD902" if isinstance(error, RuntimeCrashed) else code
    message = " ".join(str(error).split())
    record = CheckRecord(style, runtime, "open", "open the artifact", "failed", None, message, 0.0)
    named = (
        DiagnosisRecord(style, runtime, code, CODES[code], "opening it", error.asked, cases=("open",)) if code else None
    )
    return Outcome((record,), (), (named,) if named else ())
