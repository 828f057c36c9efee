"""Compare what a manifest states with the graph and the model: it describes an artifact and decides no verdict.

Every field that a verdict could depend on is compared with the graph (`against_graph`), then with the loaded model
(`against_model`). A manifest that states what no export of that graph would have stated is refused: with
`--ignore-hashes` too, since it is not the files that are in doubt. A check then judges by `with_tolerances`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rope_deploy.artifact import (
    MANIFEST_NAME,
    MODEL_NAME,
    TOKENS_KEY,
    TOLERANCES,
    Limits,
    Manifest,
    Rotation,
    TensorInfo,
    Tolerances,
)
from rope_deploy.graph.operator_limits import OPERATOR_LIMITS
from rope_deploy.graph.reading.file_facts import Facts

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel

RESULTS = ("logits", "last_hidden_state")
# Of a rotation's rule these follow from the graph: how its pairs lie, and how many rows were asked for.
FROM_GRAPH = ("interleaved", "max_position")


def against_graph(manifest: Manifest, facts: Facts) -> Iterator[str]:
    """The statements of the manifest that the graph in its folder contradicts, one sentence each."""
    yield from _interface(manifest, facts)
    yield from _type(manifest, facts)
    for rotation in manifest.rotations:
        yield from _table(manifest, rotation, facts)
    yield from _sites(manifest, facts)
    yield from _limits(manifest, facts)
    if stranger := sorted(facts.styles - {manifest.style}):
        yield f"style: {manifest.style}; the graph has operators of {', '.join(stranger)}."
    if manifest.fused_attention != bool(facts.fused):
        what = "rotates in GroupQueryAttention" if facts.fused else "has no GroupQueryAttention that rotates"
        yield f"fused_attention: {str(manifest.fused_attention).lower()}; the graph {what}."
    yield from facts.contradictions
    if absent := sorted({MODEL_NAME, *facts.files} - set(manifest.files)):
        yield f"files: {', '.join(absent)} is not listed, so nothing says whether it was changed."


def _interface(manifest: Manifest, facts: Facts) -> Iterator[str]:
    if manifest.opset != facts.opset:
        yield f"opset: {manifest.opset}; the graph's is {facts.opset}."
    for name, stated, found in (
        ("inputs", manifest.inputs, facts.inputs),
        ("outputs", manifest.outputs, facts.outputs),
    ):
        if stated != (real := tuple(TensorInfo(*one) for one in found)):
            differing = [info.name for info in {*stated} ^ {*real}] or ["their order"]
            yield f"{name}: other than the graph's ({', '.join(sorted(set(differing))[:4])})."
    if manifest.cache != (bool(manifest.past_names) or bool(manifest.present_names)):
        yield f"cache: {str(manifest.cache).lower()}; the graph has {len(manifest.past_names)} inputs of a past."
    known = {*RESULTS, *manifest.present_names}
    if manifest.task != "tower" and (strange := [info.name for info in manifest.outputs if info.name not in known]):
        yield f"outputs: {', '.join(strange[:4])}; no export gives that, and no check compares it."
    if manifest.task != "tower" and manifest.result_name not in RESULTS:
        yield f"outputs: the first is {manifest.result_name!r}, none of {', '.join(RESULTS)}."


def _type(manifest: Manifest, facts: Facts) -> Iterator[str]:
    result = next((info.dtype for info in manifest.outputs if "float" in info.dtype), manifest.dtype)
    for what, dtype in (("weights are", facts.dtype), ("result is", result)):
        if dtype and dtype != manifest.dtype:
            yield f"dtype: {manifest.dtype}; the graph's {what} {dtype}."
    standard = TOLERANCES[manifest.dtype]
    for one in fields(Tolerances):
        stated, most = getattr(manifest.tolerances, one.name), getattr(standard, one.name)
        if stated > most:
            yield f"tolerances.{one.name}: {stated:g}; of {manifest.dtype} it is {most:g}."


def _table(manifest: Manifest, rotation: Rotation, facts: Facts) -> Iterator[str]:
    """Compare a rotation's tables with the graph's, which have one row more: a row of NaN follows the rows."""
    about = f"rotations.{rotation.name}"
    if rotation.cos_sin == "computed":
        if rotation.cos_cache or rotation.sin_cache or not facts.trigonometric:
            yield f"{about}.source: runtime; the graph reads it from a table."
        return
    names = [name for name in (rotation.cos_cache, rotation.sin_cache) if name]
    if manifest.task == "tower" and not names:
        return  # small tables become part of other constants when the graph is folded
    if len({*names}) != 2 or any(name not in facts.shapes for name in names):
        yield f"{about}: the graph has no tables {rotation.cos_cache} and {rotation.sin_cache}."
        return
    for name in names:
        shape = facts.shapes[name]
        if len(shape) != 2 or shape[0] not in (rotation.rows, rotation.rows + 1):
            yield f"{about}.rows: {rotation.rows}; {name} has the shape {list(shape)}."
        elif rotation.rotary_dim and 2 * shape[1] != rotation.rotary_dim:
            yield f"{about}.rotary_dim: {rotation.rotary_dim}; {name} has {shape[1]} pairs."
    fits = (
        rotation.rows == manifest.max_position if rotation.cos_sin == "table" else rotation.rows > manifest.max_position
    )
    if manifest.task != "tower" and not fits:
        yield f"max_position: {manifest.max_position}; {names[0]} has {rotation.rows} rows."


def _sites(manifest: Manifest, facts: Facts) -> Iterator[str]:
    caches = {info.name for info in manifest.outputs}
    for index, site in enumerate(manifest.sites):
        if absent := [name for name in (site.input, site.output, site.scores) if name and name not in facts.values]:
            yield f"sites.{index}: {', '.join(absent)} is not a value of the graph."
        if site.present and site.present not in caches:
            yield f"sites.{index}: the graph does not give {site.present}."
        if site.output is not None and (site.input is None or site.scores):
            yield f"sites.{index}: {site.output} can be seen, so what goes in can be, and scores are not needed."
        if site.output is None and not site.scores and f"present.{site.layer}.key" not in facts.fused:
            yield f"sites.{index}: layer {site.layer} is said to rotate inside its attention; in the graph it does not."


def _limits(manifest: Manifest, facts: Facts) -> Iterator[str]:
    """Compare the limits with the operators that cause them, which must then rotate every layer."""
    limits, limited = manifest.limits, frozenset[str]().union(*facts.limited.values())
    every = not manifest.cache or all(
        f"present.{site.layer}.key" in limited or site.output in limited
        for site in manifest.sites
        if not site.occurrence
    )
    for limit in OPERATOR_LIMITS:
        if not getattr(limits, limit.name) and not (every and facts.limited.get(limit.name)):
            yield f"limits.{limit.name}: false; no operator of the graph has that limit."
    stated = facts.metadata.get(TOKENS_KEY)
    if (None if limits.tokens is None else str(limits.tokens)) != stated:
        yield f"limits.tokens: {limits.tokens}; the graph says {stated or 'nothing of that'}."
    if limits.tokens is not None and limits.tokens < 1:
        yield f"limits.tokens: {limits.tokens} leaves no call."


def against_model(manifest: Manifest, loaded: LoadedModel) -> Iterator[str]:
    """The statements of the manifest that the model contradicts, one sentence each."""
    rotating = 1 + max((site.layer for site in manifest.sites), default=-1)
    compared: dict[str, tuple[Any, Any]] = {
        "model_type": (manifest.model_type, loaded.model_type),
        "task": (manifest.task, loaded.task),
        "dtype": (manifest.dtype, loaded.dtype),
    }
    if manifest.task != "tower" and loaded.layers:
        compared["layers"] = (manifest.layers, max(loaded.layers, rotating))
    if loaded.vocab_size is not None:
        compared["vocab_size"] = (manifest.vocab_size, loaded.vocab_size)
    for name, (stated, real) in compared.items():
        if stated != real:
            yield f"{name}: {stated}; the model's is {real}."
    rules = [_rule(spec.to_dict()) for spec in loaded.specs.values()]
    for rotation in manifest.rotations:
        if rotation.spec and _rule(rotation.spec) not in rules:
            yield f"rotations.{rotation.name}.spec: no rule of the model's configuration."
        if not rotation.spec and rules and manifest.task != "tower":
            yield f"rotations.{rotation.name}.spec: left out; the model's configuration states a rule."


def _rule(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in FROM_GRAPH}


def with_tolerances(manifest: Manifest, tolerances: Tolerances | None) -> Manifest:
    """The manifest to judge by: with the command's tolerances, or the dtype's, never its own."""
    return replace(manifest, tolerances=tolerances or TOLERANCES[manifest.dtype])


def unlisted_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names in the folder that the manifest does not list, so that nothing says where they come from."""
    return sorted(
        path.name
        for path in Path(folder).iterdir()
        if path.name not in (*manifest.files, MANIFEST_NAME) and not path.name.startswith(".")
    )


def restrictions(manifest: Manifest, reach: int | None) -> dict[str, str]:
    """The limits of this artifact by name, each with a text. `reach`: positions the model serves, if that is known."""
    limits = manifest.limits
    found = {limit.name: limit.text for limit in OPERATOR_LIMITS if not getattr(limits, limit.name)}
    if limits.tokens is not None:
        found["tokens"] = f"at most {limits.tokens} tokens in a call"
    if reach is not None and manifest.task != "tower" and manifest.max_position < reach:
        found["max_position"] = f"{manifest.max_position} positions; the model has {reach}"
    return found


LIMITS = (*(one.name for one in fields(Limits) if one.name != "note"), "max_position")
