"""Taps: the values at the rotation sites of a graph become extra outputs.

Only the model file is edited, in memory; the weights stay in their file. Where a site's rotated tensor exists only
inside GroupQueryAttention, the operator is asked for its products q·k instead (its `qk_output`), and k is read from
the cache it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from rope_deploy.artifact import Manifest, Site
from rope_deploy.errors import ConfigError
from rope_deploy.graph.rotating_operators import GROUP_QUERY_ATTENTION
from rope_deploy.runtimes.cache_layout import new_keys
from rope_deploy.runtimes.protocol import Arrays

BEFORE_SOFTMAX = 1  # GroupQueryAttention's qk_output


@dataclass(frozen=True)
class Products:
    """q·k of one fused attention: graph output `name` holds them times `scale`, zero outside `window` keys."""

    layer: int
    name: str
    scale: float
    window: int | None


def add_outputs(model: onnx.ModelProto, manifest: Manifest) -> tuple[Products, ...]:
    """Make every value the sites name a graph output of `model` (edited in place).

    Raises ConfigError when the manifest names a value that the graph does not hold.
    """
    present = {output.name for output in model.graph.output}
    wanted = [name for site in manifest.sites for name in (site.input, site.output, site.scores) if name]
    products = tuple(_products(model.graph.node, manifest.sites))
    wanted += [p.name for p in products]
    inputs = {value.name for value in model.graph.input}
    held = inputs | {name for node in model.graph.node for name in node.output}
    if absent := [f"{name} is not a value of the graph." for name in dict.fromkeys(wanted) if name not in held]:
        raise ConfigError("The manifest does not fit its graph:", absent, todo="Export the model again.")
    for name in dict.fromkeys(wanted):
        if name not in present | inputs:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    return products


def _products(nodes: Iterable[onnx.NodeProto], sites: Iterable[Site]) -> Iterable[Products]:
    fused = {site.present: site for site in sites if site.role == "k" and site.output is None and site.present}
    stated = {site.layer: site for site in sites if site.role == "q" and site.scores}
    for site in stated.values():
        yield Products(site.layer, site.scores or "", site.scale or site.head_dim**-0.5, None)
    for node in nodes:
        site = fused.get(node.output[1]) if len(node.output) > 1 else None
        if node.op_type != GROUP_QUERY_ATTENTION or site is None or site.layer in stated:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("softcap"):
            continue  # what it returns is then not the plain product
        name = f"rope_deploy.products.{site.layer}"
        del node.output[3:]
        node.output.extend([""] * (3 - len(node.output)) + [name])
        node.attribute.append(helper.make_attribute("qk_output", BEFORE_SOFTMAX))
        window = attributes.get("local_window_size", -1)
        yield Products(site.layer, name, attributes.get("scale") or site.head_dim**-0.5, window if window > 0 else None)


def read_taps(
    manifest: Manifest, products: Iterable[Products], outputs: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]
) -> Arrays:
    """The taps of `runtimes.protocol` from the raw outputs of a graph that went through `add_outputs`."""
    taps: Arrays = {}
    # Only what is fused needs them, and towers have neither.
    mask, tokens = feeds.get("attention_mask"), feeds["input_ids"].shape[1] if "input_ids" in feeds else 0
    values = {**feeds, **outputs}
    for site in manifest.sites:
        key = site.key
        if site.input:
            taps[f"unrotated.{key}"] = to_heads(values[site.input], site)
        if site.output:
            taps[f"rotated.{key}"] = to_heads(values[site.output], site)
        elif site.present:
            taps[f"rotated.{key}"] = new_keys(outputs[site.present], mask, tokens)
    with np.errstate(all="ignore"):  # where a query sees no key, the operator leaves whatever lay in memory
        for product in products:
            if product.window is None or mask.shape[1] <= product.window:
                taps[f"products.{product.layer}"] = outputs[product.name] / product.scale
    return taps


def to_heads(value: np.ndarray, site: Site) -> np.ndarray:
    """The value of a site as [B, N, S, H], from the site's own axis order."""
    if value.shape[-1] != site.head_dim * (site.num_heads if site.layout == "BS(NH)" else 1):
        raise ConfigError(
            "The manifest does not fit its graph:",
            [
                f"{site.role} of layer {site.layer} has shape {list(value.shape)}, laid out as {site.layout}; "
                f"the manifest says {site.num_heads} heads of {site.head_dim}."
            ],
            todo="Export the model again.",
        )
    if site.layout == "BS(NH)":
        value = value.reshape(*value.shape[:2], site.num_heads, site.head_dim)
    return value if site.layout == "BNSH" else value.transpose(0, 2, 1, 3)
