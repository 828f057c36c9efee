"""From the results of all cases to mistakes with names.

What a site did to its own input is the diagnosis' business. Here is what it takes the whole picture to say: the
runtime died, a layer turns that has no rotation, PyTorch does not follow the rule, or the error is no rotation at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.diagnosis import Observation, diagnose
from rope_deploy.parity.compare import Difference
from rope_deploy.parity.compare_sites import Seen
from rope_deploy.parity.judge_call import Turned
from rope_deploy.parity.listed_sites import listed
from rope_deploy.parity.towers.judge_call import Named
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import CheckRecord, DiagnosisRecord

EVIDENCE = 768 << 20  # bytes of tensors kept of sound sites; wrong ones are always kept
# Times the difference of the input, each in its own tolerance: from there on a difference is the turn's own.
BEYOND_INPUT = 2.0


@dataclass(frozen=True)
class CaseResult:
    """A case's record and what it rests on. `crash`: how the runtime died or what it raised, "" if it answered;
    `unjudged`: it answered, and could not be judged. `unguarded`: how it answered a position that it must not.
    `named`: mistakes of a tower that already have a name; `rotating`: the keys of the sites at which PyTorch was seen
    to rotate. `ratios` of each call and its `tokens` as in `judge.Judged`."""

    record: CheckRecord
    seen: tuple[Seen, ...] = ()
    differences: tuple[Difference, ...] = ()
    turned: tuple[Turned, ...] = ()
    ratios: tuple[Mapping[str, np.ndarray], ...] = ()
    tokens: int = 0
    named: tuple[Named, ...] = ()
    rotating: frozenset[str] = frozenset()
    crash: str = ""
    unjudged: bool = False
    unguarded: str = ""

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
    found += _of_the_model(manifest, diagnose(manifest, runtime, _observations(results)), results)
    found += _named(about, failed)
    found += _unnamed(
        manifest, about, failed, {(layer, role) for one in found for layer in one.layers for role in one.roles}
    )
    found += _turned(about, failed)
    found += _against_the_rule(manifest, about, failed)
    found += _without_rule(about, failed)
    if not found and (open_to := [result for result in failed if result.unguarded]):  # else it is that mistake's work
        cases = [result.record.case for result in open_to]
        found.append(_record(about, "RD206", "positions outside the table", open_to[0].unguarded, cases=cases))
    answered = [result for result in failed if not result.crash and not result.unjudged]
    return tuple(found) if found or not answered else (_elsewhere(about, answered),)


def _of_the_model(
    manifest: Manifest, found: Iterable[DiagnosisRecord], results: Iterable[CaseResult]
) -> Iterator[DiagnosisRecord]:
    """What was found, but of sites that do what PyTorch's do: there it is the stated rule that is another."""
    agree: dict[tuple[int, str], bool] = defaultdict(lambda: True)
    for one in (one for result in results for one in result.seen if one.wrong):
        agree[one.site.layer, one.site.role] &= _as_pytorch(one)
    for record in found:
        sites = [(layer, role) for layer in record.layers for role in record.roles if (layer, role) in agree]
        if not sites or not all(agree[site] for site in sites):
            yield record
            continue
        said = "The graph does what PyTorch does, so the export is true to the model; the rule that its configuration"
        said += f" states is another. Of graph and model, held against that rule: {record.explanation} ({record.code})"
        yield replace(record, code="RD603", title=CODES["RD603"], explanation=said)


def _as_pytorch(one: Seen) -> bool:
    """Whether a site does what PyTorch's does: not only within what rounding allows, but as far from the rule."""
    apart, given = one.of_kind("rotated"), one.inputs
    if apart is None or apart.failed or (given is not None and given.failed):
        return False
    ours, theirs = one.exactness
    return ours is None or theirs is None or theirs >= ours / 2


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
    yield from _listed(about, by_mistake)


def _listed(
    about: tuple[str, str], by_mistake: Mapping[tuple[str, str], Sequence[tuple[str, Named]]]
) -> Iterator[DiagnosisRecord]:
    for (code, words), found in by_mistake.items():
        sites = sorted({(one.site.layer, one.site.role) for _, one in found})
        error = max(one.error for _, one in found)
        yield _record(about, code, listed(sites), words, sites=sites, cases=[case for case, _ in found], error=error)


def _unnamed(
    manifest: Manifest, about: tuple[str, str], failed: Iterable[CaseResult], named: Collection[tuple[int, str]]
) -> Iterator[DiagnosisRecord]:
    """What is wrong with a site is said, also where there was too little to make a diagnosis of."""
    found, by_mistake = [], defaultdict(list)
    for result in failed:
        for one in result.seen:
            if one.wrong and (one.site.layer, one.site.role) not in named:
                if one.named is not None:
                    apart = one.of_kind("oracle")
                    by_mistake[one.named].append((result.record.case, Named(one.site, *one.named, apart.ratio)))
                else:
                    found.append((result.record.case, one.site, one.of_kind("oracle")))
    yield from _listed(about, by_mistake)
    if found:
        sites = sorted({(site.layer, site.role) for _, site, _ in found})
        ruled = any(one.name == found[0][1].rotation and one.spec for one in manifest.rotations)
        judged_by = "the rule in the manifest" if ruled else "PyTorch's angles, or the file's own table without PyTorch"
        explanation = f"{found[0][2].words()}, judged by what the site was given and by {judged_by}."
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
    wrong = {one.site.key for result in failed for one in result.seen if one.wrong}
    keys = {one.site.layer for result in failed for one in result.seen if one.wrong and one.site.role == "k"}
    for result in failed:
        for one in result.seen:
            apart = one.of_kind("rotated")
            # A site that breaks the rule in one call obeys it in none: it is only too little to be seen in some.
            if one.observation is None or one.site.key in wrong or apart is None or not apart.failed:
                continue
            if one.how == "products" and one.site.layer in keys:  # they are wrong by the keys' mistake already
                continue
            # What differs no more after the turn than before it came with the input, if within what that is allowed.
            if one.inputs is not None and not one.inputs.failed and apart.ratio > BEYOND_INPUT * one.inputs.ratio:
                by_rotation[one.site.rotation].append((result.record.case, one, apart.ratio))
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
    """Sites that no oracle can judge, and that differ from PyTorch's."""
    found: list[tuple[str, Difference]] = []
    for result in failed:
        found += [(result.record.case, d) for d in result.differences if d.failed and d.kind == "invariant"]
        for one in result.seen:
            apart = one.of_kind("rotated")
            if one.observation is not None or one.wrong or apart is None or not apart.failed:
                continue
            if one.inputs is not None and not one.inputs.failed and apart.ratio > BEYOND_INPUT * one.inputs.ratio:
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
