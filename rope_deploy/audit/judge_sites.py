"""Judge where a file rotates, and how: every layer that should and no other, in the right layout and width."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rope_deploy.audit.collect_findings import Findings, roles_and_layers
from rope_deploy.audit.expected_rotations import Expected
from rope_deploy.graph.reading import FoundSite, Reading
from rope_deploy.results.wording import LAYOUTS
from rope_deploy.results.wording import layers as layers_of


def judge_sites(reading: Reading, expected: Expected | None, findings: Findings) -> None:
    """One record: every rotation was understood, and is in the layers and the layout that are expected."""
    began = time.perf_counter()
    before = len(findings.diagnoses)
    for one in reading.unread:
        findings.mistake("RD601", one.reason, one.node)
    if expected is not None:
        _layouts(reading.sites, expected.for_layers(reading.numbered), findings)
        _layers_and_roles(reading, expected, findings)
    found = findings.diagnoses[before:]
    message = " ".join(f"{one.code}: {one.explanation}" for one in found)
    detail = f"as {expected.source} has them" if expected is not None and expected.rules else "as far as they are known"
    where = f" ({reading.branch})" if reading.branch else ""
    findings.record(
        f"rotations{where}", detail, "failed" if found else "passed", message or reading_text(reading), began
    )


def reading_text(reading: Reading) -> str:
    """E.g. "60 sites: q and k of layers 0–29; half-split, 64 of 64 elements.\""""
    kinds = dict.fromkeys((s.form, s.interleaved, s.rotary_dim, s.head_dim) for s in reading.sites)
    parts = [f"{len(reading.sites)} sites"]
    for form, interleaved, rotary, head in kinds:
        mine = [
            s
            for s in reading.sites
            if (s.form, s.interleaved, s.rotary_dim, s.head_dim) == (form, interleaved, rotary, head)
        ]
        heads = sorted({(s.role, s.num_heads) for s in mine if s.num_heads}, reverse=True)
        counts = " and ".join(f"{number} {role} heads" for role, number in heads)
        elements = f"{rotary} of {head} elements" if head else f"{rotary} elements"
        parts.append(
            ", ".join(part for part in (roles_and_layers(mine), LAYOUTS[interleaved], elements, counts, form) if part)
        )
    return "; ".join(parts) + "."


def _layouts(sites: Sequence[FoundSite], expected: Expected, findings: Findings) -> None:
    for site in sites:
        name = expected.spec_of(site.layer, site.role)
        specs = [expected.specs[name]] if name is not None else list(expected.specs.values())
        where, about = f"{site.node}", {"layers": (site.layer,), "roles": (site.role,)}
        if all(spec.rotary_dim != site.rotary_dim for spec in specs):
            stated = " or ".join(str(spec.rotary_dim) for spec in specs)
            text = f"{site.rotary_dim} elements are rotated; {expected.source} says {stated}."
            if name in expected.accepted:
                findings.hazard("RD603", expected.accepted[name], where, (site.layer,))
            else:
                findings.mistake("RD103", text, where, **about)
            continue
        if all(spec.interleaved != site.interleaved for spec in specs) and site.rotary_dim > 2:
            findings.mistake(
                "RD101",
                f"The pairs are {LAYOUTS[site.interleaved]}; {expected.source} has them "
                f"{LAYOUTS[not site.interleaved]} "
                "(unless whoever wrote the file permuted the weights of q and k, which an audit does not read).",
                where,
                **about,
            )


def _layers_and_roles(reading: Reading, expected: Expected, findings: Findings) -> None:
    if expected.rules is None:
        return
    sites, stated, count = reading.sites, set(expected.rules), expected.sites
    have = {(site.layer, site.role) for site in sites}
    if not reading.numbered:  # which layer is which cannot be told: only how many there are
        if count is not None and len(sites) != count:
            text = f"There are {len(sites)} rotations in the file; {expected.source} asks for {count}."
            findings.mistake("RD602", text, "the whole file")
        return
    missing, extra = stated - have, have - stated
    if not missing and not extra:
        if count is not None and len(sites) != count:
            counts = f"{len(sites)} rotations in the file, {count} in {expected.source}"
            findings.mistake(
                "RD602", f"There are {counts}: some layer is rotated more than once.", roles_and_layers(sites)
            )
        return
    if not have:
        return
    unrotated, rotated = _whole_layers(missing, have), _whole_layers(extra, stated)
    if unrotated:
        inverted = " The layers without rotation are inverted." if rotated and _inverted(have, stated) else ""
        findings.mistake(
            "RD106",
            f"Nothing is rotated in {layers_of(unrotated)}.{inverted}",
            layers_of(unrotated),
            layers=unrotated,
            roles=("q", "k"),
        )
    if rotated:
        findings.mistake(
            "RD110",
            f"{layers_of(rotated)} must not be rotated.".capitalize(),
            layers_of(rotated),
            layers=rotated,
            roles="qk",
        )
    single = sorted(layer for layer in {n for n, _ in missing} if layer not in unrotated)
    for layer in single:
        (absent,) = {role for n, role in missing if n == layer}
        present = "k" if absent == "q" else "q"
        findings.mistake(
            "RD108",
            f"{present} is rotated and {absent} is not.",
            layers_of([layer]),
            layers=[layer],
            roles=(absent,),
        )


def _whole_layers(found: set[tuple[int, str]], others: set[tuple[int, str]]) -> list[int]:
    """Layers of which a role is among `found`, and none among `others`."""
    layers = {layer for layer, _ in found} - {layer for layer, _ in others}
    return sorted(layers)


def _inverted(have: set[tuple[int, str]], stated: set[tuple[int, str]]) -> bool:
    """Whether exactly those layers rotate that must not."""
    return not {layer for layer, _ in have} & {layer for layer, _ in stated}
