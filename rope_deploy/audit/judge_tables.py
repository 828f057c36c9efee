"""Judge every table of a file: by the rule of the layers that use it, or by what holds for every table."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rope_deploy.audit.collect_findings import Findings, roles_and_layers
from rope_deploy.audit.compare_table import TableComparison, compare_table
from rope_deploy.audit.expected_rotations import Expected
from rope_deploy.audit.name_table_mistake import TableMistake, name_mistake, stated_precision
from rope_deploy.audit.table_invariants import broken_invariants
from rope_deploy.graph.analysis.influences import OTHERS, TOKENS
from rope_deploy.graph.reading import FoundSite, FoundTable, Reading, Unreadable
from rope_deploy.results.records import Worst

PRECISION = ("RD501", "RD503", "RD504")  # read off the types in the graph
FOLLOWS = "cos and sin follow from {also} too, and not from each token's position alone."
POSITIONS = 8192  # up to where a table that is computed is looked at, where nothing says how long it must be


def judge_tables(readings: Sequence[Reading], expected: Expected | None, findings: Findings) -> None:
    """One record a table and rule. Tables that serve one length each (behind an If) are judged together."""
    served = {} if expected is None else _lengths_served(readings, expected)
    for reading in readings:
        for number, table in enumerate(reading.tables):
            sites = reading.sites_of(number)
            _by_position_alone(table, sites, expected, findings)
            if expected is None:
                _by_invariants(table, sites, findings)
                continue
            for name, group in _by_spec(table, sites, expected.for_layers(reading.numbered)).items():
                _by_rule(table, name, group, expected, served.get((name, table.width), frozenset()), findings)


def _by_position_alone(
    table: FoundTable, sites: Sequence[FoundSite], expected: Expected | None, findings: Findings
) -> None:
    """Angles must depend on positions alone: a table is compared in some calls, which then hold for all others."""
    began, ruled = time.perf_counter(), expected is not None
    by_length = not ruled or any(spec.depends_on_length for spec in expected.specs.values())
    where = f"{table.name}, {roles_and_layers(sites)}"
    layers, roles = {site.layer for site in sites}, {site.role for site in sites}
    for also in sorted(table.follows):
        text = FOLLOWS.format(also=also)
        if also not in (TOKENS, OTHERS) or not by_length:
            findings.mistake("RD609", text, where, layers=layers, roles=roles, case=f"positions of {table.name}")
            findings.record(f"positions of {table.name}", "position_ids alone", "failed", f"RD609: {text}", began)
        elif not ruled:
            findings.hazard("RD609", f"{table.name}: {text} No rule is stated to judge it by.", where, layers)


def _by_spec(table: FoundTable, sites: Sequence[FoundSite], expected: Expected) -> dict[str, list[FoundSite]]:
    """The sites that use `table`, by the name of the rule they should follow; the closest where that is not known."""
    groups: dict[str, list[FoundSite]] = {}
    closest = None
    for site in sites:
        name = expected.spec_of(site.layer, site.role)
        if name is None:
            closest = closest or _closest(table, expected)
            name = closest
        groups.setdefault(name, []).append(site)
    return groups


def _closest(table: FoundTable, expected: Expected) -> str:
    def distance(name: str) -> tuple[bool, float]:
        spec = expected.specs[name]
        if spec.rotary_dim != 2 * table.width:
            return True, 0.0
        try:
            return False, compare_table(table, spec, min(512, expected.max_position)).ratio
        except Unreadable:  # it is like no rule; `_by_rule` records that it cannot be evaluated
            return True, 0.0

    return min(expected.specs, key=distance)


def _lengths_served(readings: Sequence[Reading], expected: Expected) -> dict[tuple[str, int], frozenset[int]]:
    """By rule that depends on the length, and width: the lengths at which the table of some branch is right."""
    served: dict[tuple[str, int], frozenset[int]] = {}
    if len(readings) < 2:
        return served
    for table in (table for reading in readings for table in reading.tables):
        for name, spec in expected.specs.items():
            if spec.depends_on_length and spec.rotary_dim == 2 * table.width:
                try:
                    found = compare_table(table, spec, expected.max_position).lengths
                except Unreadable:  # it serves no length; `_by_rule` records that it cannot be evaluated
                    continue
                served[name, table.width] = served.get((name, table.width), frozenset()) | found
    return served


def _by_rule(
    table: FoundTable, name: str, sites: list[FoundSite], expected: Expected, served: frozenset[int], findings: Findings
) -> None:
    began, spec = time.perf_counter(), expected.specs[name]
    case, where = f"table {table.name}", f"{table.name}, {roles_and_layers(sites)}"
    layers, roles = {site.layer for site in sites}, {site.role for site in sites}
    detail = f"{spec.scaling.rope_type}, rope_theta {spec.rope_theta:g}, as in {expected.source}"
    if spec.rotary_dim != 2 * table.width:
        message = f"{2 * table.width} elements are rotated; {expected.source} says {spec.rotary_dim}."
        if name in expected.accepted:
            findings.hazard("RD603", expected.accepted[name], where, layers)
            findings.record(case, detail, "skipped", expected.accepted[name], began)
            return
        findings.mistake("RD103", message, where, layers=layers, roles=roles, case=case)
        findings.record(case, detail, "failed", message, began)
        return
    try:
        found = compare_table(table, spec, expected.max_position)
        if found.sound or (spec.depends_on_length and _served(found, served)):
            rows = f"{found.rows} rows" if table.stored else f"{found.rows} positions"
            findings.record(
                case, detail, "passed", f"{rows}, {roles_and_layers(sites)}.", began, _worst(table, sites, found)
            )
            return
        others = {other: one for other, one in expected.specs.items() if other != name}
        named = name_mistake(table, spec, others, found, expected.max_position)
    except Unreadable as reason:
        message = f"cos and sin cannot be evaluated: {reason}"
        findings.mistake("RD601", message, where, layers=layers, roles=roles, case=case)
        findings.record(case, detail, "failed", message, began)
        return
    if name in expected.accepted:
        findings.hazard("RD603", expected.accepted[name], where, layers)
        findings.record(case, detail, "skipped", expected.accepted[name], began, _worst(table, sites, found))
        return
    _report(findings, named, where, layers, roles, case)
    findings.record(case, detail, "failed", f"{named.code}: {named.explanation}", began, _worst(table, sites, found))


def _served(found: TableComparison, served: frozenset[int]) -> bool:
    """Whether the lengths at which this table is wrong are served by the table of another branch."""
    return bool(found.lengths) and len(served) > len(found.lengths) and found.length in served


def _report(findings: Findings, named: TableMistake, where: str, layers, roles, case: str) -> None:
    findings.mistake(
        named.code,
        named.explanation,
        where,
        layers=layers,
        roles=roles,
        error=named.error,
        residual=named.residual,
        case=case,
    )


def _worst(table: FoundTable, sites: Sequence[FoundSite], found: TableComparison) -> Worst:
    return Worst(
        tensor=table.name,
        error=found.error,
        tolerance=found.budget or found.error,
        layer=None,
        role=None,
        position=found.position,
    )


def _by_invariants(table: FoundTable, sites: Sequence[FoundSite], findings: Findings) -> None:
    began, case, where = time.perf_counter(), f"table {table.name}", f"{table.name}, {roles_and_layers(sites)}"
    detail = "what holds of most tables: no rule is stated"
    layers, roles = {site.layer for site in sites}, {site.role for site in sites}
    try:
        broken = broken_invariants(table, POSITIONS)
    except Unreadable as reason:
        message = f"cos and sin cannot be evaluated: {reason}"
        findings.mistake("RD601", message, where, layers=layers, roles=roles, case=case)
        findings.record(case, detail, "failed", message, began)
        return
    stated, before = stated_precision(table), len(findings.diagnoses)
    for one in broken:
        code, text = stated if stated is not None and one.code != "RD201" else (one.code, one.explanation)
        if one.surely or code in PRECISION:
            about = {"layers": layers, "roles": roles, "error": one.ratio, "residual": one.ratio, "case": case}
            findings.mistake(code, text, where, **about)
        else:
            findings.hazard(code, f"{table.name}: {text} No rule is stated to judge it by.", where, layers)
    message = " ".join(one.explanation for one in broken) or f"{roles_and_layers(sites)}."
    failed = len(findings.diagnoses) > before
    findings.record(case, detail, "failed" if failed else "passed", message, began)
