"""From the results of all cases to mistakes with names.

What a site did to its own input is the diagnosis' business. Here is what it takes the whole picture to say: the
runtime died, a layer turns that has no rotation, PyTorch does not follow the rule, or the error is no rotation at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rope_deploy.artifact import Manifest
from rope_deploy.parity.compare import Difference
from rope_deploy.parity.diagnosis import Observation, diagnose
from rope_deploy.parity.judge import Turned
from rope_deploy.parity.sites import Seen
from rope_deploy.parity.towers.judge import Named
from rope_deploy.parity.words import listed
from rope_deploy.report.codes import CODES
from rope_deploy.report.records import CheckRecord, DiagnosisRecord

EVIDENCE = 768 << 20  # bytes of tensors kept of sound sites; wrong ones are always kept


@dataclass(frozen=True)
class CaseResult:
    """A case's record and what it rests on. `crash`: how the runtime died or what it raised, "" if it answered;
    `unjudged`: it answered, and could not be judged. `named`: mistakes of a tower that already have a name."""

    record: CheckRecord
    seen: tuple[Seen, ...] = ()
    differences: tuple[Difference, ...] = ()
    turned: tuple[Turned, ...] = ()
    named: tuple[Named, ...] = ()
    crash: str = ""
    unjudged: bool = False

    @property
    def failed(self) -> bool:
        return self.record.verdict == "failed"


def findings(manifest: Manifest, runtime: str, results: Sequence[CaseResult]) -> tuple[DiagnosisRecord, ...]:
    """Every mistake that the failed cases show; () if none failed."""
    failed = [result for result in results if result.failed]
    if not failed:
        return ()
    about = manifest.style, runtime
    found = [*_crashes(about, failed)]
    found += diagnose(manifest, runtime, _observations(results))
    found += _named(about, failed)
    found += _unnamed(about, failed, {(layer, role) for one in found for layer in one.layers for role in one.roles})
    found += _turned(about, failed)
    found += _against_the_rule(manifest, about, failed)
    found += _without_rule(about, failed)
    answered = [result for result in failed if not result.crash and not result.unjudged]
    return tuple(found) if found or not answered else (_elsewhere(about, answered),)


def _observations(results: Iterable[CaseResult]) -> list[Observation]:
    """All evidence of sites in error, and of sound ones as much as memory allows: they only narrow a mistake down."""
    kept, room = [], EVIDENCE
    for one in (one for result in results for one in result.seen if one.observation is not None):
        if not one.wrong:
            room -= one.observation.unrotated.nbytes * 2
            if room < 0:
                continue
        kept.append(one.observation)
    return kept


def _crashes(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """One record for each way in which the runtime died."""
    ways: dict[str, list[str]] = defaultdict(list)
    for result in failed:
        if result.crash:
            ways[result.crash].append(result.record.case)
    for how, cases in ways.items():
        yield _record(about, "RD902", f"{len(cases)} of the cases", how, cases=cases)


def _named(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """One record for each mistake of a tower's rotations."""
    by_mistake: dict[tuple[str, str], list[tuple[str, Named]]] = defaultdict(list)
    for result in failed:
        for one in result.named:
            by_mistake[one.code, one.words].append((result.record.case, one))
    for (code, words), found in by_mistake.items():
        sites = sorted({(one.site.layer, one.site.role) for _, one in found})
        error = max(one.error for _, one in found)
        yield _record(about, code, listed(sites), words, sites=sites, cases=[case for case, _ in found], error=error)


def _unnamed(
    about: tuple[str, str], failed: Iterable[CaseResult], named: Collection[tuple[int, str]]
) -> Iterator[DiagnosisRecord]:
    """What is wrong with a site is said, also where there was too little to make a diagnosis of."""
    found = []
    for result in failed:
        for one in result.seen:
            if one.wrong and (one.site.layer, one.site.role) not in named:
                found.append((result.record.case, one.site, one.of_kind("oracle")))
    if found:
        sites = sorted({(site.layer, site.role) for _, site, _ in found})
        explanation = f"{found[0][2].words()}, judged by the manifest's rule and by what the site was given."
        cases = [case for case, _, _ in found]
        error = max(apart.ratio for _, _, apart in found)
        yield _record(about, "RD900", listed(sites), explanation, sites=sites, cases=cases, error=error)


def _turned(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """Layers that have no rotation in the manifest, and turn."""
    by_rotation: dict[str, list[tuple[str, Turned]]] = defaultdict(list)
    for result in failed:
        for one in result.turned:
            by_rotation[one.rotation].append((result.record.case, one))
    for rotation, found in by_rotation.items():
        layers = sorted({one.layer for _, one in found})
        yield _record(
            about,
            "RD110",
            listed((layer, "k") for layer in layers),
            f"k is PyTorch's turned by rotation {rotation}; the manifest has no rotation in "
            f"{'these layers' if len(layers) > 1 else 'this layer'}.",
            sites=[(layer, "k") for layer in layers],
            cases=[case for case, _ in found],
            error=max(one.difference.ratio for _, one in found),
            residual=max(one.residual for _, one in found),
        )


def _against_the_rule(
    manifest: Manifest, about: tuple[str, str], failed: Iterable[CaseResult]
) -> Iterator[DiagnosisRecord]:
    """Sites that obey the manifest's rule and are given what PyTorch's are given, and still differ from PyTorch."""
    by_rotation: dict[str, list[tuple[str, Seen, float]]] = defaultdict(list)
    keys = {one.site.layer for result in failed for one in result.seen if one.wrong and one.site.role == "k"}
    for result in failed:
        for one in result.seen:
            apart = one.of_kind("rotated")
            if one.observation is None or one.wrong or apart is None or not apart.failed:
                continue
            if one.how == "products" and one.site.layer in keys:  # they are wrong by the keys' mistake already
                continue
            if one.inputs is not None and not one.inputs.failed:
                by_rotation[one.site.spec].append((result.record.case, one, apart.ratio))
    for rotation, found in by_rotation.items():
        sites = sorted({(one.site.layer, one.site.role) for _, one, _ in found})
        rule = next(r.spec for r in manifest.rotations if r.name == rotation).get("rope_parameters", {})
        yield _record(
            about,
            "RD603",
            listed(sites),
            f"The graph follows rotation {rotation} of the manifest ({rule.get('rope_type')}, rope_theta "
            f"{rule.get('rope_theta')}); PyTorch, given the same q and k, turns them otherwise.",
            sites=sites,
            cases=[case for case, _, _ in found],
            error=max(ratio for _, _, ratio in found),
        )


def _without_rule(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """Sites that no oracle can judge: they break what holds of every rotation, or differ from PyTorch's alone."""
    found: list[tuple[str, Difference]] = []
    for result in failed:
        found += [(result.record.case, d) for d in result.differences if d.failed and d.kind == "invariant"]
        for one in result.seen:
            apart, given_alike = one.of_kind("rotated"), one.inputs is not None and not one.inputs.failed
            if one.observation is None and given_alike and apart is not None and apart.failed:
                found.append((result.record.case, apart))
    if found:
        sites = sorted({(difference.layer, difference.role) for _, difference in found})
        first = found[0][1]
        why = "it was given what PyTorch's was given" if first.kind == "rotated" else "that holds of every rotation"
        yield _record(
            about,
            "RD900",
            listed(sites),
            f"No rule is known to judge it by. {first.words()}; {why}.",
            sites=sites,
            cases=[case for case, _ in found],
            error=max(difference.ratio for _, difference in found),
        )


def _elsewhere(about: tuple[str, str], failed: Sequence[CaseResult]) -> DiagnosisRecord:
    """Nothing that was seen of the rotations is wrong: name the first tensor that differs."""
    wrong = [difference for result in failed for difference in result.differences if difference.failed]
    cases = [result.record.case for result in failed]
    if not wrong:  # e.g. it ran what it must refuse
        return _record(about, "RD901", f"case {cases[0]}", failed[0].record.message, cases=cases)
    first = first_of(wrong)
    where = first.tensor if first.layer is None else f"{first.tensor} (layer {first.layer})"
    return _record(
        about,
        "RD901",
        where,
        f"Every rotation that could be seen is right for its input. The first tensor that differs: {first.words()}.",
        sites=[(first.layer, first.role)] if first.layer is not None else [],
        cases=cases,
        error=max(difference.ratio for difference in wrong if difference.tensor == first.tensor),
    )


def first_of(wrong: Iterable[Difference]) -> Difference:
    """The one nearest to the cause: layers in order, what a rotation turns before what the cache keeps, logits last."""
    return min(wrong, key=lambda d: (d.kind == "logits", d.kind == "cache", d.layer or 0))


def _record(
    about: tuple[str, str],
    code: str,
    where: str,
    explanation: str,
    *,
    sites: Collection[tuple[int, str | None]] = (),
    cases: Iterable[str] = (),
    error: float = 0.0,
    residual: float = 0.0,
) -> DiagnosisRecord:
    return DiagnosisRecord(
        *about,
        code=code,
        title=CODES[code],
        where=where,
        explanation=explanation,
        layers=tuple(sorted({layer for layer, _ in sites})),
        roles=tuple(sorted({role for _, role in sites if role}, reverse=True)),
        cases=tuple(dict.fromkeys(cases)),
        error=error,
        residual=residual,
    )
