"""What all styles of one model share: the trace, the markers, the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from rope_deploy.artifact import Finding
from rope_deploy.errors import UnmatchedRotation, UsageError
from rope_deploy.exporter.audit import Audited, audit, recomputed
from rope_deploy.graph import Raised, clean, raise_rotations
from rope_deploy.models import LoadedModel, trace
from rope_deploy.models.trig import cos, sin

DEFAULT_MAX_POSITION = 4096  # for models that do not say


@dataclass(frozen=True)
class Prepared:
    """A traced model with its rotations raised and audited, ready to be written in any style."""

    loaded: LoadedModel
    raised: Raised
    audited: tuple[Audited, ...]
    cache: bool
    angles: Literal["model", "float64"]
    max_position: int

    @property
    def findings(self) -> tuple[Finding, ...]:
        left = tuple(Finding("unmatched", "warning", f"Left as it was: {line}") for line in self.raised.unmatched)
        return tuple(finding for one in self.audited for finding in one.findings) + left


def prepare(
    loaded: LoadedModel,
    *,
    cache: bool = True,
    max_position: int | None = None,
    angles: Literal["model", "float64"] = "model",
    allow_unmatched: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Prepared:
    """Trace `loaded`, raise its rotations and audit their tables.

    `max_position` is the number of rows of the tables, by default the model's own maximum. `angles` "float64"
    replaces the model's fp32 tables by ones computed from its configuration in fp64.

    Raises ModelError, UnmatchedRotation, or UsageError where fp64 tables cannot be had.
    """
    limit = max_position or max((spec.reach for spec in loaded.specs.values()), default=DEFAULT_MAX_POSITION)
    progress("Tracing the model")
    model = trace(loaded, cache=cache)
    progress("Finding the rotations")
    clean(model)
    raised = raise_rotations(model, limit, cos=cos, sin=sin, allow_unmatched=allow_unmatched)
    refuse_repeats(raised)
    audited = audit(raised.rotations, loaded.specs)
    if angles == "float64":
        audited = [in_float64(one) for one in audited]
        raised = replace(raised, rotations=tuple(one.rotation for one in audited))
    return Prepared(loaded, raised, tuple(audited), cache and loaded.task == "decoder", angles, limit)


def refuse_repeats(raised: Raised) -> None:
    """Raise unless each layer turns its q once and its k once: a manifest, and every check, names a site by these."""
    sites = Counter((node.attributes["layer"].value, node.attributes["role"].value) for node in raised.markers())
    if repeated := sorted(site for site, count in sites.items() if count > 1):
        layer, role = repeated[0]
        raise UnmatchedRotation(
            f"{role} of layer {layer} is rotated {sites[layer, role]} times.",
            exists=f"{len(sites)} places of {sites.total()} rotations have a name of their own.",
            todo="Layers that run several times, and second rotations in a layer, are not supported.",
        )


def in_float64(one: Audited) -> Audited:
    """The same with tables computed in fp64. Raises UsageError unless the rule is known and the model followed it."""
    if one.spec is None or any(f.code in ("table-differs", "size-differs") for f in one.findings):
        raise UsageError(
            f"{one.rotation.name} cannot be computed in fp64: its rule is not known exactly.",
            exists="; ".join(f.message for f in one.findings) or "The model states no rule.",
            todo="Use --angles model, which keeps the model's own tables.",
        )
    if one.rotation.table.kind == "runtime":
        raise UsageError(
            f"{one.rotation.name} cannot be computed in fp64: its angles change with the length of every call.",
            exists="It has no table; its frequencies are computed while the graph runs.",
            todo="Use --angles model.",
        )
    return replace(one, rotation=recomputed(one.rotation, one.spec))
