"""Prepare a model for every style at once: trace it, raise its rotations to markers, audit their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rope_deploy.artifact import TOKENS_KEY, Finding
from rope_deploy.errors import UsageError
from rope_deploy.export.audit_tables import Audited, audit_rotations, recomputed
from rope_deploy.export.one_sided_layers import one_sided
from rope_deploy.graph.analysis.result_size import require_tables
from rope_deploy.graph.markers import Raised
from rope_deploy.graph.passes.sequences import after_trace, run
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.models import LoadedModel, trace
from rope_deploy.models.example_inputs import Example, cast, guess_example, read_example
from rope_deploy.models.loaded_model import DTYPES
from rope_deploy.models.torch_trig import cos, sin
from rope_deploy.options import Angles, ExportOptions
from rope_deploy.rope.from_config import stated_length, text_config

DEFAULT_MAX_POSITION = 4096  # for models that do not say


@dataclass(frozen=True)
class Prepared:
    """A traced model with its rotations raised and audited, ready to be written in any style.

    `example` is what a tower was traced with, `patches` are the names of the patches that were in place in the trace,
    and `traced` what it found.
    """

    loaded: LoadedModel
    raised: Raised
    audited: tuple[Audited, ...]
    cache: bool
    angles: Angles
    max_position: int
    example: Example | None = None
    patches: tuple[str, ...] = ()
    traced: tuple[Finding, ...] = ()

    @property
    def tokens(self) -> int | None:
        """The most that a call may have; None if any number."""
        stated = self.raised.model.metadata_props.get(TOKENS_KEY)
        return None if stated is None else int(stated)

    @property
    def findings(self) -> tuple[Finding, ...]:
        left = tuple(Finding("unmatched", "warning", f"Left as it was: {line}") for line in self.raised.unmatched)
        audited = (finding for one in self.audited for finding in one.findings)
        return (*self.loaded.findings, *self.traced, *audited, *one_sided(self.raised, "model"), *left)


def prepare(
    loaded: LoadedModel,
    options: ExportOptions = ExportOptions(),
    *,
    example: Example | None = None,
    judge: Callable[[list[Audited]], list[Audited]] = lambda audited: audited,
    progress: Callable[[str], None] = lambda step: None,
) -> Prepared:
    """Trace `loaded`, raise its rotations and audit their tables, as `options` say.

    `example` is what a tower is traced with, instead of the file that `options` name; without both it is guessed.
    `judge` decides what becomes of differences from the configuration: it returns the rotations with the findings to
    keep, or raises.

    Raises ModelError, UnmatchedRotation, or UsageError where fp64 tables cannot be had.
    """
    max_position, angles = options.max_position, options.angles
    usual = stated_length(loaded.config) or DEFAULT_MAX_POSITION
    limit = max_position or max((spec.reach for spec in loaded.specs.values()), default=usual)
    if loaded.task != "tower":
        widest = max((spec.rotary_dim for spec in loaded.specs.values()), default=2)
        stated_by = "--max-position" if max_position else f"as the configuration of {loaded.source} says"
        require_tables(limit, widest, max(1, len(loaded.specs)), stated_by)
    example = _example(loaded, example or options.example, max_position)
    progress("Tracing the model")
    traced = trace(loaded, cache=options.cache, example=example)
    progress("Finding the rotations")
    run(traced.model, after_trace())
    raised = raise_rotations(traced.model, limit, cos=cos, sin=sin, allow_unmatched=options.allow_unmatched)
    audited = audit_rotations(raised.rotations, loaded.specs, types_of_layers(raised, loaded))
    if loaded.task == "tower":
        limit = max((rotation.max_position for rotation in raised.rotations), default=limit)
        audited = [_without_unfollowed_rule(one) for one in audited]
    audited = judge(audited)
    if angles == "float64":
        audited = [in_float64(one) for one in audited]
        raised = replace(raised, rotations=tuple(one.rotation for one in audited))
    elif audited and all(one.angles == "float64" for one in audited):
        angles = "float64"  # as they are in the model
    return Prepared(
        loaded,
        raised,
        tuple(audited),
        options.cache and loaded.task == "decoder",
        angles,
        limit,
        example,
        traced.patches,
        traced.findings,
    )


def _example(loaded: LoadedModel, given: Example | Path | None, max_position: int | None) -> Example | None:
    """What a tower is traced with; None for a model that reads text. Raises UsageError for what does not fit."""
    if loaded.task != "tower":
        if given is not None:
            raise UsageError(f"{loaded.source} reads text: it needs no example.", todo="Leave out --example.")
        return None
    if max_position is not None:
        raise UsageError(
            "The tables of a tower have a row for each patch or frame of its inputs.",
            todo="Leave out --max-position, and give inputs of another size: --example FILE.npz.",
        )
    example = read_example(given, loaded.model) if isinstance(given, Path) else given
    return guess_example(loaded.model) if example is None else cast(example, DTYPES[loaded.dtype])


def types_of_layers(raised: Raised, loaded: LoadedModel) -> dict[int, str]:
    """The type of the layers in which each rotation happens, by its number, as far as the configuration says."""
    if len(loaded.specs) < 2:
        return {}
    return layer_types(raised, loaded.model.config.to_dict())


def layer_types(raised: Raised, config: Mapping[str, Any]) -> dict[int, str]:
    """The same by a configuration with transformers' keys."""
    types = dict(enumerate(text_config(config).get("layer_types") or ()))
    layers = {node.attributes["rotation"].value: node.attributes["layer"].value for node in raised.markers()}
    return {rotation: types.get(layer, "") for rotation, layer in layers.items()}


def _without_unfollowed_rule(one: Audited) -> Audited:
    """A rotation of a tower, with its stated rule only if it follows it: rows and columns follow an unstated one."""
    if one.spec is None or any(finding.unlike_configuration for finding in one.findings):
        name = one.rotation.name
        note = f"{name}: no rule is stated for its angles; the model's own are exported, a row for each token."
        return Audited(one.rotation, None, "", (Finding("no-rule", "info", note),))
    return one


def in_float64(one: Audited) -> Audited:
    """The same with tables computed in fp64. Raises UsageError unless the rule is known and the model followed it."""
    if one.spec is None or any(finding.unlike_configuration for finding in one.findings):
        raise UsageError(
            f"{one.rotation.name} cannot be computed in fp64: its rule is not known exactly.",
            exists="; ".join(f.message for f in one.findings) or "No configuration states one.",
            todo="Use --angles model, which keeps the tables as they are.",
        )
    if one.rotation.table.kind == "computed":
        raise UsageError(
            f"{one.rotation.name} cannot be computed in fp64: its angles change with the length of every call.",
            exists="It has no table; its frequencies are computed while the graph runs.",
            todo="Use --angles model.",
        )
    return replace(one, rotation=recomputed(one.rotation, one.spec))
