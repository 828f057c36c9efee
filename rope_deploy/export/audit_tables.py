"""Compare the tables found in a graph with the rule stated in the model's configuration.

The graph's own numbers are exported. A difference from the stated rule is a finding for the reader, never a silent
choice of one over the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from rope_deploy.artifact import SIZE_DIFFERS, TABLE_DIFFERS, Finding
from rope_deploy.audit.compare_table import difference_from_rule
from rope_deploy.audit.table_tolerances import MISTAKEN, OTHER_ROUNDINGS, repeated_roundings
from rope_deploy.graph.markers import RaisedRotation
from rope_deploy.rope import RopeSpec, tables
from rope_deploy.rope.tables import Angles

Whose = Literal["model", "file"]  # whose rotations are audited


@dataclass(frozen=True)
class Audited:
    """A rotation and the stated rule that comes closest to it (None if none was stated).

    `angles` "float64": the model computes its angles in fp64, as RoFormer does, and its tables are those of the rule in
    fp64.
    """

    rotation: RaisedRotation
    spec: RopeSpec | None
    layer_type: str
    findings: tuple[Finding, ...]
    angles: Angles = "model"


def audit_rotations(
    rotations: tuple[RaisedRotation, ...],
    specs: Mapping[str, RopeSpec],
    used: Mapping[int, str] = MappingProxyType({}),
    *,
    of: Whose = "model",
) -> list[Audited]:
    """Each rotation with the spec it follows; specs are those of the configuration, by layer type.

    `used`: the type of the layers in which a rotation happens, by its number. It decides where there is no table to
    compare, as nothing is tabulated of a rule of the length. `of`: what the rotations were found in, for messages.
    """
    return [_audit(rotation, specs, used.get(number, ""), of) for number, rotation in enumerate(rotations)]


def _audit(rotation: RaisedRotation, specs: Mapping[str, RopeSpec], layer_type: str, of: Whose) -> Audited:
    if not specs:
        note = Finding("no-config", "info", f"{rotation.name}: no rule is stated to compare its tables with.")
        return Audited(rotation, None, "", (note,))
    fitting = {name: s for name, s in specs.items() if s.rotary_dim == rotation.rotary_dim} or specs
    errors = {name: table_error(rotation, spec) for name, spec in fitting.items()}
    name = min(errors, key=lambda key: errors[key][0])
    if rotation.table.kind == "computed" and layer_type in fitting:
        name = layer_type
    stated, (error, position) = fitting[name], errors[name]
    spec = replace(stated, interleaved=rotation.interleaved, max_position=rotation.max_position)
    findings = list(_shape_findings(rotation, stated, of))
    allowed = repeated_roundings(rotation.table.cos)
    if allowed < error < OTHER_ROUNDINGS and table_error(rotation, spec, "float64")[0] <= allowed:
        return Audited(rotation, spec, name, tuple(findings), "float64")
    if rotation.table.kind != "computed" and error > allowed and stated.rotary_dim == rotation.rotary_dim:
        severity = "error" if error > MISTAKEN else "warning"
        findings.append(
            Finding(
                TABLE_DIFFERS,
                severity,
                f"{rotation.name}: the {of}'s tables differ from the rule in the configuration "
                f"({spec.scaling.rope_type}) by {error:.2g} at position {position}; the {of}'s are written.",
            )
        )
    return Audited(rotation, spec, name, tuple(findings))


def _shape_findings(rotation: RaisedRotation, stated: RopeSpec, of: Whose) -> Iterator[Finding]:
    if stated.rotary_dim != rotation.rotary_dim or stated.head_dim != rotation.head_dim:
        narrower = stated.rotary_dim != rotation.rotary_dim
        yield Finding(
            SIZE_DIFFERS if narrower else "head-differs",  # as that of an indexer does
            "warning" if narrower else "info",
            f"{rotation.name}: the {of} rotates {rotation.rotary_dim} of {rotation.head_dim} elements, "
            f"the configuration says {stated.rotary_dim} of {stated.head_dim}.",
        )
    if rotation.table.axes and rotation.table.axes != tuple(stated.axes.tolist()):
        yield Finding(
            "axes-differ",
            "warning",
            f"{rotation.name}: the {of}'s pairs follow the axes of a position in another order than the configuration "
            f"says (mrope_section {list(stated.mrope_section)}).",
        )
    if stated.interleaved != rotation.interleaved and not rotation.rearranged:
        layout = {True: "interleaved", False: "half-split"}
        yield Finding(
            "layout-differs",
            "info",
            f"{rotation.name}: the {of}'s layout is {layout[rotation.interleaved]}; "
            f"{layout[stated.interleaved]} was expected of this model type.",
        )


def table_error(rotation: RaisedRotation, spec: RopeSpec, angles: Angles = "model") -> tuple[float, int]:
    """Largest difference of the rotation's tables from the spec's, and the position where it is."""
    if spec.rotary_dim != rotation.rotary_dim:
        return float("inf"), 0
    found = [(0.0, 0)]
    for start, rows, length in segments(rotation):
        cos, sin = (half[start : start + rows] for half in (rotation.table.cos, rotation.table.sin))
        found.append(difference_from_rule(cos, sin, spec, angles=angles, seq_len=length))
    return max(found, key=lambda one: one[0])


def segments(rotation: RaisedRotation) -> list[tuple[int, int, int]]:
    """(first row, number of rows, length of the calls they serve) of each part of the rotation's caches."""
    original, rows = rotation.table.original, len(rotation.table.cos)
    if rotation.table.kind == "two-tables":
        return [(0, original, original), (original, rows - original, rows - original)]
    return [(0, rows, rows)] if rows else []


def recomputed(rotation: RaisedRotation, spec: RopeSpec) -> RaisedRotation:
    """`rotation` with tables computed from the spec in fp64, rounded to fp32 and from there to the old ones' type."""
    dtype = rotation.table.cos.dtype
    parts = [tables(spec, rows, angles="float64", seq_len=length) for _, rows, length in segments(rotation)]
    if not parts:
        return rotation
    cos, sin = (np.concatenate(halves).astype(dtype) for halves in zip(*parts, strict=True))
    return replace(rotation, table=replace(rotation.table, cos=cos, sin=sin))
