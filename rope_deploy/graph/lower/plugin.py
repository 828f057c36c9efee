"""Style plugin: our custom operators, as model-local functions with bodies of standard operators.

    rope_deploy::RopeRotateQK(q, k, cos_cache, sin_cache, rows) -> (q_rotated, k_rotated)
    rope_deploy::RopeRotate(x, cos_cache, sin_cache, rows) -> x_rotated
        attributes  heads_axis (1: [B, N, S, H], 2: [B, S, N, H]), head_dim, rotary_dim, interleaved, and the ones of
                    PLUGIN_UNUSED, which these graphs leave as they are

ONNX Runtime runs the body; TensorRT's parser inlines it, or, when told to prefer plugins, looks up a plugin of
that name and passes the attributes as its fields. Neither operator is called RotaryEmbedding: the parser takes
any operator of that name, in any domain, for its own.
"""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.builder import Builder
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.lower.task import LoweringTask
from rope_deploy.graph.markers import MarkedSite
from rope_deploy.graph.rotating_operators import DOMAIN, PLUGIN_ATTRIBUTES, PLUGIN_UNUSED, ROTATE, ROTATE_QK
from rope_deploy.graph.standard_rotation import full_width, rotate


def lower_to_plugin(task: LoweringTask) -> list[LoweredSite]:
    """Replace each q and k marker of a layer by one node, a lone marker by the one-tensor operator."""
    task.model.graph.opset_imports[DOMAIN] = 1
    lowered: list[LoweredSite] = []
    for group in _groups(task.sites()):
        last = max(group, key=lambda site: site.node.graph.index(site.node))
        build = Builder(last.node, last.prefix)
        cos, sin, index = task.rows.with_caches(last)
        name = ROTATE_QK if len(group) == 2 else ROTATE
        outputs = build.ops(
            name,
            *(site.x for site in group),
            cos,
            sin,
            index,
            domain=DOMAIN,
            outputs=[(None, site.x.dtype, site.x.shape) for site in group],
            **attributes_of(last),
            **PLUGIN_UNUSED,
        )
        node = outputs[0].producer()
        node.overload = _ensure_function(task.model, name, last, task.opset)
        for site, rotated in zip(group, outputs, strict=True):
            site.replace(rotated)
            lowered.append(LoweredSite.of(site, site.layout, site.x, rotated))
    return lowered


def attributes_of(site: MarkedSite) -> dict[str, int]:
    """The attributes of the custom operators that differ from site to site; all are the plugin's fields."""
    values = (site.heads_axis, site.head_dim, site.rotary_dim, int(site.interleaved))
    return dict(zip(PLUGIN_ATTRIBUTES, values, strict=True))


def _groups(sites: list[MarkedSite]) -> list[list[MarkedSite]]:
    """q and k of the same layer and rotation together, q first."""
    groups: dict[tuple, list[MarkedSite]] = {}
    for site in sites:
        key = (site.layer, site.occurrence, site.rotation.name, site.heads_axis, site.x.dtype)
        groups.setdefault(key, []).append(site)
    result = []
    for group in groups.values():
        roles = sorted((site.role, number) for number, site in enumerate(group))
        if [role for role, _ in roles] == ["k", "q"]:
            result.append(sorted(group, key=lambda site: site.role, reverse=True))
        else:
            result.extend([site] for site in group)
    return result


def _ensure_function(model: ir.Model, name: str, site: MarkedSite, opset: int) -> str:
    """Add the function for these attributes to the model; returns its overload.

    A body cannot branch on attributes, so each combination has its own. A graph nearly always has one, and then
    the overload is empty, which every tool understands.
    """
    wanted = attributes_of(site)
    mine = [f for (_, function, _), f in model.functions.items() if function == name]
    for function in mine:
        if all(int(function.metadata_props[key]) == value for key, value in wanted.items()):
            return function.overload
    function = _function(name, site, opset, overload=str(len(mine)) if mine else "")
    function.metadata_props.update({key: str(value) for key, value in wanted.items()})
    model.functions[function.identifier()] = function
    return function.overload


def _function(name: str, site: MarkedSite, opset: int, overload: str) -> ir.Function:
    """The function: it gathers the rows, brings them to full width and rotates each tensor."""
    tensors = ("q", "k") if name == ROTATE_QK else ("x",)
    dtype = site.x.dtype
    inputs = [ir.Value(name=n, type=ir.TensorType(dtype)) for n in (*tensors, "cos_cache", "sin_cache")]
    inputs.append(ir.Value(name="rows", type=ir.TensorType(ir.DataType.INT64)))
    *moved, cos_cache, sin_cache, rows = inputs
    first = ir.node("Identity", [rows], outputs=[ir.Value(name="row", type=rows.type)], name="rows")
    graph = ir.Graph(inputs, [], nodes=[first], opset_imports={"": opset}, name=name)
    build = Builder(first, name, constants_as_nodes=True)
    halves = [build.op("Gather", cache, first.outputs[0], axis=0, dtype=dtype) for cache in (cos_cache, sin_cache)]
    c, s = full_width(build, *halves, site.heads_axis, site.interleaved)
    for x in moved:
        graph.outputs.append(rotate(build, x, c, s, site.head_dim, site.rotary_dim, site.interleaved))
    declared = [ir.Attr(key, ir.AttributeType.INT, None) for key in PLUGIN_ATTRIBUTES]
    declared += [
        ir.Attr(key, ir.convenience.convert_attribute(key, value).type, None) for key, value in PLUGIN_UNUSED.items()
    ]
    return ir.Function(DOMAIN, name, overload, graph=graph, attributes=declared)
