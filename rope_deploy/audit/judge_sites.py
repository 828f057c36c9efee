"""Judge where a file rotates, and how: every layer that should and no other, in the right layout and width."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rope_deploy.audit.collect_findings import Findings, place
from rope_deploy.audit.expected import Expected
from rope_deploy.graph.reading import FoundSite, Reading
from rope_deploy.results.wording import layers as layers_of

LAYOUT = {True: "interleaved", False: "half-split"}


def judge_sites(reading: Reading, expected: Expected | None, findings: Findings) -> None:
    began = time.perf_counter()
    before = len(findings.diagnoses)
    for one in reading.unread:
        findings.mistake("RD601", one.reason, one.node)
    if expected is not None:
        _layouts(reading.sites, expected.as_far_as(reading.numbered), findings)
        _places(reading, expected, findings)
    found = findings.diagnoses[before:]
    message = " ".join(f"{one.code}: {one.explanation}" for one in found)
    detail = (
        f"as {expected.source} has them" if expected is not None and expected.places else "as far as they are known"
    )
    where = f" ({reading.branch})" if reading.branch else ""
    findings.record(f"rotations{where}", detail, "failed" if found else "passed", message or words(reading), began)


def words(reading: Reading) -> str:
    """What was found, e.g. "60 rotations: q and k of layers 0–29; half-split, 64 of 64 elements.\""""
    kinds = dict.fromkeys((s.form, s.interleaved, s.rotary_dim, s.head_dim) for s in reading.sites)
    parts = [f"{len(reading.sites)} rotations"]
    for form, interleaved, rotary, head in kinds:
        mine = [
            s
            for s in reading.sites
            if (s.form, s.interleaved, s.rotary_dim, s.head_dim) == (form, interleaved, rotary, head)
        ]
        heads = sorted({(s.role, s.num_heads) for s in mine if s.num_heads}, reverse=True)
        counts = " and ".join(f"{number} {role} heads" for role, number in heads)
        elements = f"{rotary} of {head} elements" if head else f"{rotary} elements"
        parts.append(", ".join(part for part in (place(mine), LAYOUT[interleaved], elements, counts, form) if part))
    return "; ".join(parts) + "."


def _layouts(sites: Sequence[FoundSite], expected: Expected, findings: Findings) -> None:
    for site in sites:
        name = expected.spec_of(site.layer, site.role)
        candidates = [expected.specs[name]] if name is not None else list(expected.specs.values())
        where, about = f"{site.node}", {"layers": (site.layer,), "roles": (site.role,)}
        if all(spec.rotary_dim != site.rotary_dim for spec in candidates):
            due = " or ".join(str(spec.rotary_dim) for spec in candidates)
            said = f"{site.rotary_dim} elements are turned; {expected.source} says {due}."
            if name in expected.accepted:
                findings.hazard("RD603", expected.accepted[name], where, (site.layer,))
            else:
                findings.mistake("RD103", said, where, **about)
            continue
        if all(spec.interleaved != site.interleaved for spec in candidates) and site.rotary_dim > 2:
            findings.mistake(
                "RD101",
                f"The pairs are {LAYOUT[site.interleaved]}; {expected.source} has them {LAYOUT[not site.interleaved]} "
                "(unless whoever wrote the file permuted the weights of q and k, which an audit does not read).",
                where,
                **about,
            )


def _places(reading: Reading, expected: Expected, findings: Findings) -> None:
    if expected.places is None:
        return
    sites, due, count = reading.sites, set(expected.places), expected.sites
    have = {(site.layer, site.role) for site in sites}
    if not reading.numbered:  # which layer is which cannot be told: only how many there are
        if count is not None and len(sites) != count:
            said = f"There are {len(sites)} rotations in the file; {expected.source} asks for {count}."
            findings.mistake("RD602", said, "the whole file")
        return
    missing, extra = due - have, have - due
    if not missing and not extra:
        if count is not None and len(sites) != count:
            counts = f"{len(sites)} rotations in the file, {count} in {expected.source}"
            findings.mistake("RD602", f"There are {counts}: some layer is rotated more than once.", place(sites))
        return
    if not have:
        return
    still, turned = _whole(missing, have), _whole(extra, due)
    if still:
        inverted = " The layers without rotation are inverted." if turned and _inverted(have, due) else ""
        findings.mistake(
            "RD106",
            f"Nothing is rotated in {layers_of(still)}.{inverted}",
            layers_of(still),
            layers=still,
            roles=("q", "k"),
        )
    if turned:
        findings.mistake(
            "RD110",
            f"{layers_of(turned)} must not be rotated.".capitalize(),
            layers_of(turned),
            layers=turned,
            roles="qk",
        )
    single = sorted(layer for layer in {n for n, _ in missing} if layer not in still)
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


def _whole(places: set[tuple[int, str]], others: set[tuple[int, str]]) -> list[int]:
    """Layers both of whose roles are among `places`, or the only one that any has, and none among `others`."""
    layers = {layer for layer, _ in places} - {layer for layer, _ in others}
    return sorted(layers)


def _inverted(have: set[tuple[int, str]], due: set[tuple[int, str]]) -> bool:
    """Whether exactly those layers rotate that must not."""
    return not {layer for layer, _ in have} & {layer for layer, _ in due}
