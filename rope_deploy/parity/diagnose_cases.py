"""From the results of all cases to diagnoses: the mistakes that explain what failed.

What a site did to its own input is diagnosed by `diagnosis/`. This module says what needs the results of all cases: the
runtime died, a layer is rotated that must not be, PyTorch does not follow the rule, or no rotation is wrong at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rope_deploy.artifact import Manifest
from rope_deploy.diagnosis import Observation, diagnose
from rope_deploy.parity.case_result import CaseResult
from rope_deploy.parity.compare_call import UnlistedRotation
from rope_deploy.parity.difference import Difference, nearest_to_cause
from rope_deploy.parity.site_comparison import SiteComparison, SiteMistake
from rope_deploy.parity.sites_text import sites_text
from rope_deploy.parity.tolerances import AS_INEXACT, BEYOND_INPUT
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import DiagnosisRecord

EVIDENCE = 768 << 20  # bytes of tensors kept of sound sites; those of wrong ones are always kept


def diagnose_cases(manifest: Manifest, runtime: str, results: Sequence[CaseResult]) -> tuple[DiagnosisRecord, ...]:
    """Every mistake that the failed cases show; () if none failed."""
    failed = [result for result in results if result.failed]
    if not failed:
        return ()
    about = manifest.style, runtime
    found = [*_crashes(about, failed)]
    found += _with_rule_of_model(diagnose(manifest, runtime, _observations(results)), results)
    found += _named_by_angles(about, failed)
    diagnosed = {(layer, role) for one in found for layer in one.layers for role in one.roles}
    found += _undiagnosed(manifest, about, failed, diagnosed)
    found += _unlisted_layers(about, failed)
    found += _model_against_rule(manifest, about, failed)
    found += _without_rule(about, failed)
    # Where a mistake was found, it is also what makes the graph answer positions outside its table.
    if not found and (unguarded := [result for result in failed if result.unguarded]):
        cases = [result.record.case for result in unguarded]
        found.append(_record(about, "RD206", "positions outside the table", unguarded[0].unguarded, cases=cases))
    answered = [result for result in failed if not result.crash and not result.unjudged]
    return tuple(found) if found or not answered else (_no_rotation(about, answered),)


def _with_rule_of_model(found: Iterable[DiagnosisRecord], results: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """`found`, with RD603 for mistakes of sites that do what PyTorch's do: there the stated rule is wrong."""
    agree: dict[tuple[int, str], bool] = defaultdict(lambda: True)
    for one in (one for result in results for one in result.sites if one.wrong):
        agree[one.site.layer, one.site.role] &= _does_as_pytorch(one)
    for record in found:
        sites = [(layer, role) for layer in record.layers for role in record.roles if (layer, role) in agree]
        if not sites or not all(agree[site] for site in sites):
            yield record
            continue
        text = "The graph does what PyTorch does, so the export is true to the model; the rule that its configuration"
        text += f" states is another. Of graph and model, held against that rule: {record.explanation} ({record.code})"
        yield replace(record, code="RD603", title=CODES["RD603"], explanation=text)


def _does_as_pytorch(one: SiteComparison) -> bool:
    """Whether a site does what PyTorch's does: within its tolerance, and about as far from the rule."""
    difference, inputs = one.of_kind("rotated"), one.inputs
    if difference is None or difference.failed or (inputs is not None and inputs.failed):
        return False
    ours, theirs = one.exactness
    return ours is None or theirs is None or theirs >= ours / AS_INEXACT


def _observations(results: Iterable[CaseResult]) -> list[Observation]:
    """Those of all sites in error, and of sound ones as many as memory allows: they only narrow a mistake down."""
    kept, room = [], EVIDENCE
    for one in (one for result in results for one in result.sites if one.observation is not None):
        if not one.wrong:
            room -= one.observation.unrotated.nbytes * 2
            if room < 0:
                continue
        kept.append(one.observation)
    return kept


def _crashes(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """One record for each message with which the runtime died."""
    by_message: dict[str, list[str]] = defaultdict(list)
    for result in failed:
        if result.crash:
            by_message[result.crash].append(result.record.case)
    for message, cases in by_message.items():
        yield _record(about, "RD902", f"{len(cases)} of the cases", message, cases=cases)


def _named_by_angles(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """One record for each mistake of a tower's rotations."""
    by_mistake: dict[tuple[str, str], list[tuple[str, SiteMistake]]] = defaultdict(list)
    for result in failed:
        for one in result.named:
            by_mistake[one.code, one.explanation].append((result.record.case, one))
    yield from _by_mistake(about, by_mistake)


def _by_mistake(
    about: tuple[str, str], by_mistake: Mapping[tuple[str, str], Sequence[tuple[str, SiteMistake]]]
) -> Iterator[DiagnosisRecord]:
    """One record for each mistake, with the sites that share it."""
    for (code, explanation), found in by_mistake.items():
        sites = sorted({(one.site.layer, one.site.role) for _, one in found})
        error = max(one.error for _, one in found)
        yield _record(
            about, code, sites_text(sites), explanation, sites=sites, cases=[case for case, _ in found], error=error
        )


def _undiagnosed(
    manifest: Manifest, about: tuple[str, str], failed: Iterable[CaseResult], diagnosed: Collection[tuple[int, str]]
) -> Iterator[DiagnosisRecord]:
    """Sites in error that the diagnosis could not judge: by PyTorch's angles, or RD900."""
    found, by_mistake = [], defaultdict(list)
    for result in failed:
        for one in result.sites:
            if one.wrong and (one.site.layer, one.site.role) not in diagnosed:
                if one.named is not None:
                    mistake = SiteMistake(one.site, *one.named, one.of_kind("oracle").ratio)
                    by_mistake[one.named].append((result.record.case, mistake))
                else:
                    found.append((result.record.case, one.site, one.of_kind("oracle")))
    yield from _by_mistake(about, by_mistake)
    if found:
        sites = sorted({(site.layer, site.role) for _, site, _ in found})
        ruled = any(one.name == found[0][1].rotation and one.spec for one in manifest.rotations)
        judged_by = "the rule in the manifest" if ruled else "PyTorch's angles, or the file's own table without PyTorch"
        explanation = f"{found[0][2].text}, judged by what the site was given and by {judged_by}."
        cases = [case for case, _, _ in found]
        error = max(difference.ratio for _, _, difference in found)
        yield _record(about, "RD900", sites_text(sites), explanation, sites=sites, cases=cases, error=error)


def _unlisted_layers(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """Layers that are rotated and have no rotation in the manifest."""
    by_rotation: dict[str, list[tuple[str, UnlistedRotation]]] = defaultdict(list)
    for result in failed:
        for one in result.unlisted:
            by_rotation[one.rotation].append((result.record.case, one))
    for rotation, found in by_rotation.items():
        layers = sorted({one.layer for _, one in found})
        yield _record(
            about,
            "RD110",
            sites_text((layer, "k") for layer in layers),
            f"k is PyTorch's rotated by rotation {rotation}; the manifest has no rotation in "
            f"{'these layers' if len(layers) > 1 else 'this layer'}.",
            sites=[(layer, "k") for layer in layers],
            cases=[case for case, _ in found],
            error=max(one.difference.ratio for _, one in found),
            residual=max(one.residual for _, one in found),
        )


def _model_against_rule(
    manifest: Manifest, about: tuple[str, str], failed: Iterable[CaseResult]
) -> Iterator[DiagnosisRecord]:
    """Sites that obey the manifest's rule and are given what PyTorch's are given, and still differ from PyTorch."""
    by_rotation: dict[str, list[tuple[str, SiteComparison, float]]] = defaultdict(list)
    wrong = {one.site.key for result in failed for one in result.sites if one.wrong}
    keys = {one.site.layer for result in failed for one in result.sites if one.wrong and one.site.role == "k"}
    for result in failed:
        for one in result.sites:
            difference = one.of_kind("rotated")
            # A site that breaks the rule in one call breaks it in all, though by too little to be seen in some.
            if one.observation is None or one.site.key in wrong or difference is None or not difference.failed:
                continue
            if one.through == "products" and one.site.layer in keys:  # they are wrong by the keys' mistake already
                continue
            if _beyond_input(one, difference):
                by_rotation[one.site.rotation].append((result.record.case, one, difference.ratio))
    for rotation, found in by_rotation.items():
        sites = sorted({(one.site.layer, one.site.role) for _, one, _ in found})
        rule = next(r.spec for r in manifest.rotations if r.name == rotation).get("rope_parameters", {})
        yield _record(
            about,
            "RD603",
            sites_text(sites),
            f"The graph follows rotation {rotation} of the manifest ({rule.get('rope_type')}, rope_theta "
            f"{rule.get('rope_theta')}); PyTorch, given the same q and k, rotates them otherwise.",
            sites=sites,
            cases=[case for case, _, _ in found],
            error=max(ratio for _, _, ratio in found),
        )


def _beyond_input(one: SiteComparison, difference: Difference) -> bool:
    """Whether the site adds to the difference: its input is known, within its tolerance, and differs by much less."""
    inputs = one.inputs
    return inputs is not None and not inputs.failed and difference.ratio > BEYOND_INPUT * inputs.ratio


def _without_rule(about: tuple[str, str], failed: Iterable[CaseResult]) -> Iterator[DiagnosisRecord]:
    """Sites that no oracle can judge, and that differ from PyTorch's."""
    found: list[tuple[str, Difference]] = []
    for result in failed:
        found += [(result.record.case, d) for d in result.differences if d.failed and d.kind == "invariant"]
        for one in result.sites:
            difference = one.of_kind("rotated")
            if one.observation is not None or one.wrong or difference is None or not difference.failed:
                continue
            if _beyond_input(one, difference):
                found.append((result.record.case, difference))
    if found:
        sites = sorted({(difference.layer, difference.role) for _, difference in found})
        first = found[0][1]
        why = "it was given what PyTorch's was given" if first.kind == "rotated" else "that holds of every rotation"
        yield _record(
            about,
            "RD900",
            sites_text(sites),
            f"No rule is known to judge it by. {first.text}; {why}.",
            sites=sites,
            cases=[case for case, _ in found],
            error=max(difference.ratio for _, difference in found),
        )


def _no_rotation(about: tuple[str, str], failed: Sequence[CaseResult]) -> DiagnosisRecord:
    """No rotation that was seen is wrong: name the first tensor that differs."""
    wrong = [difference for result in failed for difference in result.differences if difference.failed]
    cases = [result.record.case for result in failed]
    if not wrong:  # e.g. it ran what it must refuse
        return _record(about, "RD901", f"case {cases[0]}", failed[0].record.message, cases=cases)
    first = nearest_to_cause(wrong)
    where = first.tensor if first.layer is None else f"{first.tensor} (layer {first.layer})"
    return _record(
        about,
        "RD901",
        where,
        f"Every rotation that could be seen is right for its input. The first tensor that differs: {first.text}.",
        sites=[(first.layer, first.role)] if first.layer is not None else [],
        cases=cases,
        error=max(difference.ratio for difference in wrong if difference.tensor == first.tensor),
    )


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
