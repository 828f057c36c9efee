"""What somebody might write into the manifest of a wrong artifact, or beside it, so that a check passes it.

An edit is [manifest, "tamper.NAME", NUMBER]: NUMBER picks one of the variants. Hashes are redone afterwards.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from faults.wrong_artifacts import BASE
from rope_deploy.artifact.manifest import SCHEMA_VERSION
from rope_deploy.styles import STYLES

Manifest = dict[str, Any]
Tampering = Callable[[Manifest, Path, Any], None]
PLAIN = {"rope_type": "default", "rope_theta": BASE}


def random_tampering(rng: random.Random, manifest: str) -> list[Any]:
    name = rng.choice(list(TAMPERINGS))
    return [manifest, f"tamper.{name}", rng.randrange(len(TAMPERINGS[name][1]))]


def apply_tampering(path: Path, kind: str, arguments: list[Any]) -> None:
    """Nothing happens where earlier edits left no manifest that it fits."""
    function, variants = TAMPERINGS[kind.partition(".")[2]]
    try:
        manifest = json.loads(path.read_text("utf-8"))
        function(manifest, path.parent, variants[arguments[0]])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, RecursionError):
        return
    if path.is_file():
        path.write_text(json.dumps(manifest), "utf-8")


def _set(name: str) -> Tampering:
    def change(manifest: Manifest, folder: Path, value: Any) -> None:
        manifest[name] = value

    return change


def _update(name: str) -> Tampering:
    def change(manifest: Manifest, folder: Path, value: Manifest) -> None:
        manifest[name].update(value)

    return change


def _each(name: str) -> Tampering:
    def change(manifest: Manifest, folder: Path, value: Manifest) -> None:
        for one in manifest[name]:
            one.update(value)

    return change


def _files(manifest: Manifest, folder: Path, kept: tuple[str, ...]) -> None:
    manifest["files"] = {name: info for name, info in manifest["files"].items() if name in kept}


def _sites(manifest: Manifest, folder: Path, kept: str) -> None:
    manifest["sites"] = [site for site in manifest["sites"] if site["role"] in kept]
    if not manifest["sites"]:
        manifest["rotations"] = []


def _roles(manifest: Manifest, folder: Path, _: Any) -> None:
    for site in manifest["sites"]:
        site["role"] = "k" if site["role"] == "q" else "q"


def _relabelled(manifest: Manifest, folder: Path, layer: int) -> None:
    manifest["layers"] = layer + 1
    for site in manifest["sites"]:
        site["layer"] = layer


def _unrotated(manifest: Manifest, folder: Path, field: str) -> None:
    """A site is said to be where it is not."""
    for site in manifest["sites"]:
        site["output"], site["input"] = site["input"], site[field]


def _hidden(manifest: Manifest, folder: Path, scores: str | None) -> None:
    """Sites are said to lie inside a fused operator."""
    for site in manifest["sites"]:
        site["output"], site["scores"], site["scale"] = None, scores, 0.25
        site["present"] = "present.0.key" if site["role"] == "k" else None


def _spec(manifest: Manifest, folder: Path, rule: Manifest | None) -> None:
    for rotation in manifest["rotations"]:
        rotation["spec"] = {} if rule is None else {**rotation["spec"], "rope_parameters": rule}


def _decoy(manifest: Manifest, folder: Path, of_sites: bool) -> None:
    """A second rotation beside the first; the sites name the one or the other."""
    (first,) = manifest["rotations"]
    manifest["rotations"].append({**first, "name": "decoy", "spec": {**first["spec"], "rope_parameters": PLAIN}})
    for site in manifest["sites"] if of_sites else ():
        site["rotation"] = "decoy"


def _without(manifest: Manifest, folder: Path, part: tuple[str, str]) -> None:
    which, beginning = part
    manifest[which] = [one for one in manifest[which] if not one["name"].startswith(beginning)]


def _renamed(manifest: Manifest, folder: Path, part: tuple[str, str, str]) -> None:
    which, old, new = part
    for one in manifest[which]:
        one["name"] = one["name"].replace(old, new)


def _shapes(manifest: Manifest, folder: Path, part: tuple[str, str, Any]) -> None:
    which, axis, value = part
    for one in manifest[which]:
        one["shape"] = [value if size == axis else size for size in one["shape"]]


def _types(manifest: Manifest, folder: Path, dtype: str) -> None:
    manifest["dtype"] = dtype
    for one in [*manifest["inputs"], *manifest["outputs"]]:
        one["dtype"] = dtype if "float" in one["dtype"] else one["dtype"]


def _accepted(manifest: Manifest, folder: Path, code: str) -> None:
    manifest["findings"].append({"code": code, "severity": "warning", "message": "known", "accepted": code})


def _tokens(manifest: Manifest, folder: Path, tokens: int) -> None:
    """The graph says so as well."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    entry = model.metadata_props.add()
    entry.key, entry.value = "rope_deploy.tokens", str(tokens)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest["limits"]["tokens"] = tokens


def _shape_of_graph(manifest: Manifest, folder: Path, part: tuple[str, int]) -> None:
    """The graph itself says that it takes no more than this."""
    axis, size = part
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == axis:
                dim.dim_value = size
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for which in ("inputs", "outputs"):
        _shapes(manifest, folder, (which, axis, size))


def _config(manifest: Manifest, folder: Path, changed: Manifest) -> None:
    """The copy of the configuration says what the wrong graph does."""
    path = folder / "config.json"
    stated = {**json.loads(path.read_text("utf-8")), **changed}
    path.write_text(json.dumps({name: value for name, value in stated.items() if value != "-"}), "utf-8")


def _own_model(manifest: Manifest, folder: Path, changed: Manifest) -> None:
    """Configuration and manifest agree with the wrong tables."""
    _config(manifest, folder, changed)
    _spec(manifest, folder, changed["rope_parameters"])


def _above(manifest: Manifest, folder: Path, _: Any) -> None:
    """The folder that holds artifacts becomes one itself."""
    shutil.copytree(folder.parent / "sound", folder.parent, dirs_exist_ok=True)


def _deeper(manifest: Manifest, folder: Path, _: Any) -> None:
    shutil.move(folder, folder.with_name("deeper") / folder.name)


def _no_manifest(manifest: Manifest, folder: Path, graph: str) -> None:
    (folder / "rope_deploy.json").unlink()
    (folder / "model.onnx").rename(folder / graph)


CODES = ("RD101", "RD102", "RD103", "RD201", "RD301", "RD401", "RD501", "RD601", "RD606", "RD607", "RD608", "")
TAMPERINGS: dict[str, tuple[Tampering, tuple[Any, ...]]] = {
    "limits": (
        _update("limits"),
        (
            {"left_padding": False}, {"chunked_prefill_batch": False}, {"prompt_positions": False},
            {"padded_past": False}, {"tokens": 1}, {"tokens": 4}, {"note": "wrong beyond nothing"},
            {"left_padding": False, "chunked_prefill_batch": False, "prompt_positions": False, "padded_past": False},
        ),
    ),
    "tokens": (_tokens, (1, 3, 64)),
    "shape of the graph": (
        _shape_of_graph, (("sequence", 1), ("batch", 1), ("past", 0), ("total", 1), ("sequence", 2)),
    ),
    "max_position": (_set("max_position"), (1, 2, 5, 64, 127, 129, 10**6)),
    "rows": (_each("rotations"), ({"rows": 1}, {"rows": 5}, {"rows": 127}, {"rows": 129}, {"rows": 10**6})),
    "dtype": (_set("dtype"), ("float16", "bfloat16")),
    "types": (_types, ("float16", "bfloat16", "float64")),
    "tolerances": (
        _set("tolerances"),
        ({"logits": 1e30, "rotated": 1e30}, {"logits": 10, "rotated": 10}, {"logits": 1e-3, "rotated": 1e9}),
    ),
    "files": (_files, ((), ("model.onnx",), ("config.json",))),
    "sites": (_sites, ("", "q", "k")),
    "roles": (_roles, (None,)),
    "layers": (_set("layers"), (0, 2, 100)),
    "relabelled": (_relabelled, (1, 7)),
    "a later application": (_each("sites"), ({"occurrence": 1}, {"occurrence": 2})),
    "places": (_unrotated, ("input", "output")),
    "inside an operator": (_hidden, (None, "logits", "rope.0.q.in", "rope.0.k.in")),
    "present": (_each("sites"), ({"present": "present.0.key"}, {"present": "present.0.value"})),
    "heads": (_each("sites"), ({"num_heads": 1}, {"head_dim": 8}, {"num_heads": 8, "head_dim": 8})),
    "scale": (_each("sites"), ({"scale": 0.0}, {"scale": 1e-30}, {"scale": 1.0})),
    "layout": (_each("sites"), ({"layout": "BSNH"}, {"layout": "BS(NH)"}, {"layout": "BNSH"})),
    "spec": (_spec, (None, PLAIN, {"rope_type": "linear", "factor": 2.0, "rope_theta": BASE})),
    "decoy": (_decoy, (False, True)),
    "rotation": (
        _each("rotations"),
        (
            {"cos_sin": "computed"}, {"cos_sin": "computed", "cos_cache": None, "sin_cache": None},
            {"cos_sin": "two-tables"}, {"cos_cache": None, "sin_cache": None}, {"rotary_dim": 0}, {"rotary_dim": 8},
            {"interleaved": True}, {"axes": [0] * 8}, {"element_order": list(range(16))}, {"spec": {}},
        ),
    ),
    "task": (_set("task"), ("encoder", "tower")),
    "cache": (_set("cache"), (False,)),
    "no cache": (_without, (("inputs", "past_key_values"), ("outputs", "present"), ("outputs", "logits"))),
    "inputs": (_without, (("inputs", "position_ids"), ("inputs", "attention_mask"), ("inputs", ""))),
    "renamed": (
        _renamed,
        (("outputs", "present", "past"), ("outputs", "logits", "last_hidden_state"), ("inputs", "position", "token"),
         ("outputs", ".key", ".value"), ("outputs", "present.0", "present.1")),
    ),
    "shapes": (
        _shapes,
        (("inputs", "sequence", 1), ("inputs", "batch", 1), ("inputs", "past", 0), ("outputs", "sequence", 1),
         ("outputs", 96, 1), ("inputs", 16, 8)),
    ),
    "vocab_size": (_set("vocab_size"), (None, 1, 2, 95, 10**9)),
    "fixed": (
        _set("fixed"),
        ({"position_ids": {"dtype": "int64", "values": [[0]]}}, {"input_ids": {"dtype": "int64", "values": [[0]]}},
         {"attention_mask": {"dtype": "int64", "values": [[0]]}}),
    ),
    "findings": (_set("findings"), ([],)),
    "accepted": (_accepted, CODES),
    "angles": (_set("angles"), ("float64", "model")),
    "opset": (_set("opset"), (1, 17, 23, 99)),
    "fused_attention": (_set("fused_attention"), (True, False)),
    "style": (_set("style"), tuple(STYLES)),
    "model_type": (_set("model_type"), ("gpt2", "", "mistral")),
    "source": (_set("source"), ("", "nowhere", "os:getcwd", "evilmod:make", "input/a", ".", "hf-internal/none")),
    "patches": (_set("patches"), ([], ["nothing"])),
    "versions": (_set("versions"), ({}, {"rope-deploy": "99"})),
    "schema": (_set("schema_version"), (0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1)),
    "configuration": (
        _config,
        (
            {"rope_parameters": PLAIN}, {"rope_parameters": "-"}, {"rope_parameters": None}, {"model_type": "gpt2"},
            {"max_position_embeddings": 5}, {"num_hidden_layers": 0}, {"rope_theta": BASE},
        ),
    ),
    "an artifact above": (_above, (None,)),
    "deeper": (_deeper, (None,)),
    "no manifest": (_no_manifest, ("model.onnx", "model.ONNX", "other.onnx")),
    "configuration and rule": (_own_model, ({"rope_parameters": PLAIN},)),
}  # fmt: skip
