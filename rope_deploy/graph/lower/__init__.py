"""Lower: every `Rope` marker becomes what the asked style writes. One file a style, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.errors import UsageError
from rope_deploy.graph.lower.cache_rows import Rows
from rope_deploy.graph.lower.group_query_attention import lower_to_fused
from rope_deploy.graph.lower.marked_site import LoweredSite, MarkedSite
from rope_deploy.graph.lower.plugin import lower_to_plugin
from rope_deploy.graph.lower.rotary_operator import lower_to_operator
from rope_deploy.graph.lower.tables import Spread, lower_to_tables
from rope_deploy.graph.operators import CONTRIB, DOMAIN, STANDARD
from rope_deploy.graph.passes import rms_normalization, transpose_weights
from rope_deploy.graph.passes.count_positions import make_implicit
from rope_deploy.graph.passes.decompose_attention import decompose_attention
from rope_deploy.graph.passes.set_opset import oldest_fitting, require_known, set_opset
from rope_deploy.graph.passes.simplify import clean, prune
from rope_deploy.graph.raising.raise_rotations import Raised, markers
from rope_deploy.styles import STYLES

OPERATORS_OPSET = 23  # RotaryEmbedding, Attention, RMSNormalization
WIDEST_OPSET = 18


@dataclass(frozen=True)
class Lowered:
    """A graph in one style. `fused` is True if an attention took its rotation inside."""

    model: ir.Model
    style: str
    opset: int
    sites: tuple[LoweredSite, ...]
    fused: bool


def require_opset(style: str, opset: int | None) -> None:
    """Raise UsageError for an unknown style, or for an opset that no graph of that style can have."""
    if style not in STYLES:
        raise UsageError(f"Unknown style {style!r}.", exists=f"Known: {', '.join(STYLES)}.")
    if opset is None:
        return
    require_known(opset)
    if opset < (oldest := STYLES[style].oldest_opset or opset):
        raise UsageError(
            f"Style {style} needs opset {oldest}, where RotaryEmbedding begins; {opset} was asked.",
            todo="Use --style tables for older opsets.",
        )


def lower(
    raised: Raised,
    style: str,
    *,
    opset: int | None = None,
    fused_attention: bool = True,
    implicit_positions: bool = False,
) -> Lowered:
    """A copy of `raised` in `style`; weights are shared with the original, not copied.

    `implicit_positions` makes the graph count its positions itself and take no `position_ids`, as encoders do.
    `opset` defaults to 23 for "onnx" and to the oldest from 18 on that has the model's other operators for the
    rest. Raises UsageError for an unknown style or an opset that lacks something.
    """
    require_opset(style, opset)
    model = raised.model.clone()
    asked, opset = opset, opset or STYLES[style].oldest_opset or WIDEST_OPSET
    # Before the style: its sites name values, and a norm that is replaced afterwards would take one with it.
    rms_normalization.divide_by_root(model)
    if opset >= OPERATORS_OPSET:
        rms_normalization.use_operator(model)
    rows = Rows(model.graph)
    sites = LOWERINGS[style](model, raised, rows, opset, fused_attention)
    if opset < OPERATORS_OPSET:
        decompose_attention(model)
    transpose_weights.store_transposed(model)
    if implicit_positions:
        make_implicit(model)
    model.graph.sort()
    clean(model)
    opset = asked or oldest_fitting(model, opset)
    _name_sites(sites)
    set_opset(model, opset)
    common.ClearMetadataAndDocStringPass()(model)
    return Lowered(model, style, opset, tuple(sites), any(site.output is None for site in sites))


def _tables(model, raised: Raised, rows: Rows, opset: int, fused: bool) -> list[LoweredSite]:
    spreads = Spread(rows)
    return _each(model, raised, lambda site: lower_to_tables(site, spreads))


def _onnx(model, raised: Raised, rows: Rows, opset: int, fused: bool) -> list[LoweredSite]:
    return _each(model, raised, lambda site: lower_to_operator(site, rows, STANDARD))


def _contrib(model, raised: Raised, rows: Rows, opset: int, fused: bool) -> list[LoweredSite]:
    model.graph.opset_imports[CONTRIB] = 1
    done = lower_to_fused(model, raised.rotations, rows) if fused else []
    return done + _each(model, raised, lambda site: lower_to_operator(site, rows, CONTRIB))


def _plugin(model, raised: Raised, rows: Rows, opset: int, fused: bool) -> list[LoweredSite]:
    model.graph.opset_imports[DOMAIN] = 1
    sites = lower_to_plugin(model, _sites(model, raised), rows, opset)
    prune(model)
    return sites


# What writes each style of `rope_deploy.styles`.
LOWERINGS: dict[str, Callable[[ir.Model, Raised, Rows, int, bool], list[LoweredSite]]] = {
    "tables": _tables,
    "onnx": _onnx,
    "contrib": _contrib,
    "plugin": _plugin,
}


def _sites(model: ir.Model, raised: Raised) -> list[MarkedSite]:
    return [MarkedSite.of(node, raised.rotations) for node in markers(model.graph)]


def _each(model: ir.Model, raised: Raised, lower_site: Callable[[MarkedSite], LoweredSite]) -> list[LoweredSite]:
    sites = [lower_site(site) for site in _sites(model, raised)]
    prune(model)
    return sites


def _name_sites(sites: list[LoweredSite]) -> None:
    """Names that a person can find in a viewer: rope.7.q.in and rope.7.q.out, rope.7.q.1.in of an indexer.

    One tensor may enter two sites; each name is given once.
    """
    given: dict[str, ir.Value] = {}
    for site in sites:
        for value, end in ((site.input, "in"), (site.output, "out")):
            name = ".".join(
                ("rope", str(site.layer), site.role, *([str(site.occurrence)] if site.occurrence else ()), end)
            )
            if value is None or value.is_graph_input() or value.is_graph_output() or value in given.values():
                continue
            while name in given:
                name += "'"
            given[name] = value
            value.name = name
