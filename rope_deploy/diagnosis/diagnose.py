"""From the observations of every site to one record for each mistake."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rope_deploy.artifact import Manifest
from rope_deploy.diagnosis.best_explanation import Explanation, explain
from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import Mistake
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.results import wording
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import DiagnosisRecord
from rope_deploy.rope import RopeSpec

SiteKey = tuple[int, str, int]  # layer, role, occurrence


def diagnose(manifest: Manifest, runtime: str, observations: Sequence[Observation]) -> tuple[DiagnosisRecord, ...]:
    """One record for each mistake, with the sites that share it. Empty if every site is sound.

    All observations of a site count, also those in which it was sound: a mistake must explain both.
    """
    evidence = _evidence_by_site(manifest, observations)
    explained: dict[SiteKey, Explanation] = {}
    known: dict[str, list[Mistake]] = defaultdict(list)
    # Keys before queries: they are always seen directly, so what is measured of them can be tried on queries.
    for key in sorted(evidence, key=lambda key: (key[1], key[0], key[2])):
        rotation = evidence[key].observations[0].site.rotation
        found = explain(evidence[key], first=known[rotation])
        if found is None:
            continue
        explained[key] = found
        if found.mistake is not None and found.mistake not in known[rotation]:
            known[rotation].append(found.mistake)
    return tuple(_records(manifest, runtime, evidence, explained))


def _evidence_by_site(manifest: Manifest, observations: Sequence[Observation]) -> dict[SiteKey, Evidence]:
    """The evidence of each site whose rotation has a rule."""
    specs = {one.name: RopeSpec.from_dict(one.spec) for one in manifest.rotations if one.spec}
    by_site: dict[SiteKey, list[Observation]] = defaultdict(list)
    for one in observations:
        if one.site.rotation in specs:
            by_site[one.site.layer, one.site.role, one.site.occurrence].append(one)
    found = {}
    for key, mine in by_site.items():
        rotation = mine[0].site.rotation
        others = {name: spec for name, spec in specs.items() if name != rotation}
        found[key] = Evidence(specs[rotation], manifest.max_position, manifest.angles, mine, others)
    return found


def _records(
    manifest: Manifest, runtime: str, evidence: Mapping[SiteKey, Evidence], explained: Mapping[SiteKey, Explanation]
) -> Iterable[DiagnosisRecord]:
    groups: dict[tuple[str, str], list[SiteKey]] = defaultdict(list)
    for key, found in explained.items():
        groups[_code_and_sentence(found, key, evidence, explained)].append(key)
    for (code, sentence), keys in sorted(groups.items()):
        cases: dict[str, None] = {}
        first_wrong = manifest.max_position
        for one in (one for key in keys for one in evidence[key].observations):
            wrong = evidence[one.site.layer, one.site.role, one.site.occurrence].stated.ratios(one, exactly=True) > 1
            if wrong.any():
                cases[one.case] = None
                first_wrong = min(first_wrong, int(one.positions[wrong].min()))
        yield DiagnosisRecord(
            style=manifest.style,
            runtime=runtime,
            code=code,
            title=CODES[code],
            where=f"{_share_of_sites(keys, evidence)}, from position {first_wrong} on",
            explanation=sentence,
            layers=tuple(sorted({layer for layer, *_ in keys})),
            roles=tuple(sorted({role for _, role, _ in keys}, reverse=True)),
            cases=tuple(cases),
            error=max(explained[key].error for key in keys),
            residual=max(explained[key].residual for key in keys),
        )


def _code_and_sentence(
    found: Explanation,
    key: SiteKey,
    evidence: Mapping[SiteKey, Evidence],
    explained: Mapping[SiteKey, Explanation],
) -> tuple[str, str]:
    """Code and sentence of a site's mistake. A missing rotation is RD108 if the layer's other tensor is rotated."""
    layer, role, occurrence = key
    if found.mistake is None:
        near = f" The closest is {found.closest.code}: {found.closest.explanation}" if found.closest else ""
        return "RD900", f"No known mistake explains it.{near}"
    partner = layer, "k" if role == "q" else "q", occurrence
    if found.mistake.code == "RD106" and partner in evidence and partner not in explained:
        return "RD108", f"{role} is not rotated, {partner[1]} is."
    return found.mistake.code, found.mistake.explanation


def _share_of_sites(sites: Iterable[SiteKey], all_sites: Iterable[SiteKey]) -> str:
    """E.g. "q and k in all 30 layers", "k of layer 3", "q of layers 0–3 and 5"."""
    layers: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for role in ("q", "k"):
        if found := tuple(sorted({layer for layer, its, _ in sites if its == role})):
            layers[found].append(role)
    every = tuple(sorted({layer for layer, *_ in all_sites}))
    return "; ".join(f"{' and '.join(roles)} {_layers_text(found, every)}" for found, roles in layers.items())


def _layers_text(found: Sequence[int], every: Sequence[int]) -> str:
    if tuple(found) == tuple(every) and len(every) > 1:
        return f"in all {len(every)} layers"
    return f"of {wording.layers(found)}"
