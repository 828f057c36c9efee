"""From the evidence of every site to a list of mistakes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rope_deploy.artifact import Manifest
from rope_deploy.diagnosis.best_explanation import Explanation, explain
from rope_deploy.diagnosis.hypothesis import Mistake, sound
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.results import wording
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import DiagnosisRecord
from rope_deploy.rope import RopeSpec

Key = tuple[int, str, int]  # layer, role, turn


def diagnose(manifest: Manifest, runtime: str, observations: Sequence[Observation]) -> tuple[DiagnosisRecord, ...]:
    """One record for each mistake, the sites that share it together. Empty if every site is sound.

    All observations of a site count, also those in which it was right: a mistake must explain both.
    """
    specs = {r.name: RopeSpec.from_dict(r.spec) for r in manifest.rotations if r.spec}
    evidence: dict[Key, list[Observation]] = defaultdict(list)
    for seen in observations:
        if seen.site.rotation in specs:
            evidence[seen.site.layer, seen.site.role, seen.site.occurrence].append(seen)
    explained: dict[Key, Explanation] = {}
    known: dict[str, list[Mistake]] = defaultdict(list)
    # Keys before queries: they are always seen directly, so what is measured of them can be tried on queries.
    for key in sorted(evidence, key=lambda key: (key[1], key[0], key[2])):
        rule = evidence[key][0].site.rotation
        others = {name: spec for name, spec in specs.items() if name != rule}
        found = explain(
            specs[rule], manifest.max_position, manifest.angles, evidence[key], others=others, first=known[rule]
        )
        if found is None:
            continue
        explained[key] = found
        if found.mistake is not None and found.mistake not in known[rule]:
            known[rule].append(found.mistake)
    return tuple(_records(manifest, runtime, specs, evidence, explained))


def _records(
    manifest: Manifest,
    runtime: str,
    specs: Mapping[str, RopeSpec],
    evidence: Mapping[Key, Sequence[Observation]],
    explained: Mapping[Key, Explanation],
) -> Iterable[DiagnosisRecord]:
    groups: dict[tuple[str, str], list[Key]] = defaultdict(list)
    for key, found in explained.items():
        groups[_named(found, key, evidence, explained)].append(key)
    for (code, sentence), keys in sorted(groups.items()):
        angles, rows = manifest.angles, manifest.max_position
        cases: dict[str, None] = {}
        first = rows  # the first position that is wrong
        for key in keys:
            right = sound(specs[evidence[key][0].site.rotation], rows, angles)
            for seen in evidence[key]:
                wrong = right.ratios(seen, exactly=True) > 1
                if wrong.any():
                    cases[seen.case] = None
                    first = min(first, int(seen.positions[wrong].min()))
        yield DiagnosisRecord(
            style=manifest.style,
            runtime=runtime,
            code=code,
            title=CODES[code],
            where=f"{where(keys, evidence)}, from position {first} on",
            explanation=sentence,
            layers=tuple(sorted({layer for layer, *_ in keys})),
            roles=tuple(sorted({role for _, role, _ in keys}, reverse=True)),
            cases=tuple(cases),
            error=max(explained[key].error for key in keys),
            residual=max(explained[key].residual for key in keys),
        )


def _named(
    found: Explanation, key: Key, evidence: Mapping[Key, Sequence[Observation]], explained: Mapping[Key, Explanation]
) -> tuple[str, str]:
    """Code and sentence of a site, seen beside the other tensor of its layer."""
    layer, role, turn = key
    if found.mistake is None:
        near = f" The closest is {found.closest.code}: {found.closest.explanation}" if found.closest else ""
        return "RD900", f"No known mistake explains it.{near}"
    partner = layer, "k" if role == "q" else "q", turn
    if found.mistake.code == "RD106" and partner in evidence and partner not in explained:
        return "RD108", f"{role} is not rotated, {partner[1]} is."
    return found.mistake.code, found.mistake.explanation


def where(sites: Iterable[Key], all_sites: Iterable[Key]) -> str:
    """E.g. "q and k in all 30 layers", "k of layer 3", "q of layers 0–3 and 5"."""
    layers: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for role in ("q", "k"):
        if found := tuple(sorted({layer for layer, its, _ in sites if its == role})):
            layers[found].append(role)
    every = tuple(sorted({layer for layer, *_ in all_sites}))
    return "; ".join(f"{' and '.join(roles)} {_layers(found, every)}" for found, roles in layers.items())


def _layers(found: Sequence[int], every: Sequence[int]) -> str:
    if tuple(found) == tuple(every) and len(every) > 1:
        return f"in all {len(every)} layers"
    return f"of {wording.layers(found)}"
