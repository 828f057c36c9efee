"""Check one artifact on one runtime: open it, run every case, close it; or record why it does not open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rope_deploy.artifact import Manifest, Tolerances
from rope_deploy.errors import RopeDeployError, RuntimeCrashed, UsageError, VendorError
from rope_deploy.graph.analysis.vocabulary import with_vocabulary
from rope_deploy.options import CheckOptions
from rope_deploy.parity import Outcome, cases_for, check
from rope_deploy.parity.stored_tables import tables_without_rule
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import CheckRecord, DiagnosisRecord
from rope_deploy.runs.artifacts import Artifact
from rope_deploy.runs.manifest_claims import with_tolerances
from rope_deploy.runs.progress import Progress, silent
from rope_deploy.runtimes import Runtime, Target, open_in_child, open_runtime


@dataclass(frozen=True)
class CheckPlan:
    """What every runtime is given: the cases and the seed in `options`, and `text`, the token ids to feed.

    `tolerances` are the command's; None: those of the dtype. A manifest's are never asked.
    """

    options: CheckOptions
    text: Sequence[int] = ()
    tolerances: Tolerances | None = None

    def summary(self) -> str:
        """For the report: which cases these are, and how to run one of them again."""
        options = self.options
        chosen = "the cases asked for" if options.cases else f"the {options.case_set} set of cases"
        return f"Checked: {chosen}, seed {options.seed}. One alone: `check DIR --case ID --seed {options.seed}`."


def check_on_runtime(
    artifact: Artifact,
    reference: Runtime | None,
    runtime: str,
    plan: CheckPlan,
    engine: Path | None = None,
    *,
    progress: Progress = silent,
) -> Outcome:
    """Run the parity cases of one artifact on one runtime, which is open only meanwhile. No hashes are compared.

    Raises what keeps the runtime from opening, RuntimeCrashed if it dies of it.
    """
    options = plan.options
    manifest = with_vocabulary(with_tolerances(artifact.manifest, plan.tolerances), artifact.folder)
    manifest = _without_accepted_rules(manifest, options.accept)
    only = set(options.cases) & {case.id for case in cases_for(manifest)}
    if options.cases and not only:
        return Outcome((), ())  # the case is another style's
    with _open(artifact, runtime, engine, options.isolated) as compared:
        return check(
            manifest,
            reference,
            compared,
            only=only,
            which=options.case_set,
            seed=options.seed,
            text=plan.text,
            stored={} if reference is not None else tables_without_rule(artifact.folder, manifest),
            progress=lambda record: progress(f"Checking {manifest.style} on {runtime}: {record.case} {record.verdict}"),
        )


def check_or_fail(
    artifact: Artifact,
    reference: Runtime | None,
    runtime: str,
    plan: CheckPlan,
    engine: Path | None = None,
    *,
    progress: Progress = silent,
) -> Outcome:
    """Check likewise; a runtime that does not open is a failed outcome. Only EnvironmentMissing is raised."""
    try:
        return check_on_runtime(artifact, reference, runtime, plan, engine, progress=progress)
    except (UsageError, VendorError) as error:
        return not_opened(artifact.manifest.style, runtime, error)


def not_opened(style: str, runtime: str, error: RopeDeployError, code: str = "") -> Outcome:
    """The failed outcome of an artifact that could not be checked; `code` names the reason if it has one."""
    code = "RD902" if isinstance(error, RuntimeCrashed) else code
    message = " ".join(str(error).split())
    record = CheckRecord(style, runtime, "open", "open the artifact", "failed", None, message, 0.0)
    named = (
        DiagnosisRecord(style, runtime, code, CODES[code], "opening it", error.asked, cases=("open",)) if code else None
    )
    return Outcome((record,), (), (named,) if named else ())


def _without_accepted_rules(manifest: Manifest, accept: Collection[str]) -> Manifest:
    """Rotations that stray from their rule in an accepted way are judged without it: by PyTorch's own angles.

    What the manifest calls accepted is so only if whoever runs the check accepts the same.
    """
    strayed = {finding.message.split(":")[0] for finding in manifest.findings if finding.accepted in (*accept,)}
    rotations = (replace(one, spec={}) if one.name in strayed else one for one in manifest.rotations)
    return replace(manifest, rotations=tuple(rotations))


def _open(artifact: Artifact, runtime: str, engine: Path | None, isolated: bool) -> Runtime:
    target = Target(folder=artifact.folder.resolve(), engine=engine.resolve() if engine else None, taps=True)
    if isolated:
        return open_in_child(runtime, target)
    return open_runtime(runtime, replace(target, manifest=artifact.manifest))
