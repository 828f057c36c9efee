"""One edit of one file. An edit is a list, so that a recipe can be kept as JSON: [file, kind, *arguments].

    json.set PATH VALUE · json.delete PATH · json.add PATH KEY VALUE      a document, by the keys that lead to a place
    proto.set PATH VALUE · proto.delete PATH · proto.copy PATH            an ONNX graph, by fields and numbers
    proto.wire NODE INPUT NODE OUTPUT                                     one node's input is another's output
    text.replace LINE TEXT · text.delete LINE · text.insert LINE TEXT     a file of lines
    bytes.put AT HEX · bytes.cut AT · bytes.drop AT LENGTH                any file; AT is a share of its length
    file.remove · file.empty · file.fifo · file.folder · file.link TARGET the file itself
    tamper.NAME NUMBER                                                    a manifest, see `faults.manifest_tampering`

An edit that no longer fits what earlier ones left does nothing: a recipe stays applicable while it is made smaller.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import EncodeError

from faults.manifest_tampering import apply_tampering
from fuzz.values import OUTSIDE, SIZES, TEXTS, any_value, as_json, made

FileEdit = list[Any]


def apply(edit: FileEdit, folder: Path, canary: Path) -> None:
    """Carry out `edit` on its file in `folder`; "{canary}" in a text becomes the path of the canary's folder."""
    name, kind, *arguments = edit
    path, arguments = folder / name, _with_canary(arguments, canary)
    family = kind.split(".")[0]
    if not path.exists() and family != "file":
        return
    if path.is_dir() and family != "file":
        return
    _APPLY[family](path, kind, arguments)


def _with_canary(value: Any, canary: Path) -> Any:
    if isinstance(value, str):
        return value.replace("{canary}", str(canary))
    if isinstance(value, list):
        return [_with_canary(one, canary) for one in value]
    return value


def random_edit(rng: random.Random, folder: Path, name: str) -> FileEdit:
    """An edit that fits the file `name` in `folder`, by its ending."""
    path = folder / name
    roll = rng.random()
    if roll < 0.02:
        return [name, *rng.choice((["file.remove"], ["file.empty"], ["file.fifo"], ["file.folder"])), *[]]
    if roll < 0.03:
        return [name, "file.link", rng.choice(OUTSIDE)]
    if roll < 0.12 or path.suffix not in _DRAW:
        return [name, *_random_bytes(rng)]
    return [name, *_DRAW[path.suffix](rng, path)]


# --- documents ----------------------------------------------------------------------------------------------------


def _apply_json(path: Path, kind: str, arguments: list[Any]) -> None:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    where, *rest = arguments
    holder = {"": document}
    inner: Any = holder
    for key in ["", *where[:-1]] if where else []:
        try:
            inner = inner[key]
        except (KeyError, IndexError, TypeError):
            return
    last = where[-1] if where else ""
    try:
        if kind == "json.set":
            inner[last] = rest[0]
        elif kind == "json.delete":
            del inner[last]
        elif kind == "json.add":
            inner[last][rest[0]] = rest[1]
    except (KeyError, IndexError, TypeError):
        return
    path.write_text(as_json(holder[""]), encoding="utf-8", errors="surrogatepass")


def _random_json(rng: random.Random, path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return _random_bytes(rng)
    where: list[Any] = []
    while isinstance(document, dict | list) and document and (not where or rng.random() < 0.75):
        key = rng.choice(list(document)) if isinstance(document, dict) else rng.randrange(len(document))
        where, document = [*where, key], document[key]
    roll = rng.random()
    if roll < 0.12:
        return ["json.delete", where]
    if roll < 0.2:
        return ["json.add", where, rng.choice(_KEYS), any_value(rng)]
    if roll < 0.45 and isinstance(document, int | float) and not isinstance(document, bool):
        return ["json.set", where, rng.choice((document + 1, document - 1, document * 2, document // 2, -document))]
    if roll < 0.5 and isinstance(document, int | float | bool):
        return ["json.set", where, str(document)]
    return ["json.set", where, any_value(rng)]


_KEYS = (
    "rope_scaling", "rope_parameters", "rope_theta", "rope_type", "type", "factor", "alpha", "model_type", "auto_map",
    "quantization_config", "architectures", "text_config", "head_dim", "partial_rotary_factor", "mrope_section",
    "original_max_position_embeddings", "layer_types", "weight_map", "files", "source", "limits", "tolerances", "x",
)  # fmt: skip


# --- ONNX graphs --------------------------------------------------------------------------------------------------


def _apply_proto(path: Path, kind: str, arguments: list[Any]) -> None:
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # earlier edits may have made it anything
        return
    try:
        _EDIT_PROTO[kind](model, *arguments)
        path.write_bytes(model.SerializeToString())
    except (TypeError, ValueError, IndexError, AttributeError, EncodeError, OverflowError):
        return


def _held(model: Any, where: list[Any]) -> tuple[Any, Any]:
    """What holds the last step of `where`: a message and a field's name, or a repeated field and a number."""
    inner = model
    for step in where[:-1]:
        inner = getattr(inner, step) if isinstance(step, str) else inner[step]
    return inner, where[-1]


def _set_proto(model: Any, where: list[Any], value: Any) -> None:
    holder, last = _held(model, where)
    value = made(value)
    if isinstance(last, str):
        setattr(holder, last, value)
    else:
        holder[last] = value


def _delete_proto(model: Any, where: list[Any]) -> None:
    holder, last = _held(model, where)
    if isinstance(last, str):
        holder.ClearField(last)
    else:
        del holder[last]


def _copy_proto(model: Any, where: list[Any]) -> None:
    holder, last = _held(model, where)
    if not isinstance(last, str):
        copied = type(holder[last])()
        copied.CopyFrom(holder[last])
        holder.append(copied)


def _wire_proto(model: Any, node: int, number: int, source: int, output: int) -> None:
    nodes = model.graph.node
    nodes[node].input[number] = nodes[source].output[output]


_EDIT_PROTO: dict[str, Callable[..., None]] = {
    "proto.set": _set_proto,
    "proto.delete": _delete_proto,
    "proto.copy": _copy_proto,
    "proto.wire": _wire_proto,
}


def _random_proto(rng: random.Random, path: Path) -> list[Any]:
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:
        return _random_bytes(rng)
    nodes = model.graph.node
    if nodes and rng.random() < 0.12:
        node, source = rng.randrange(len(nodes)), rng.randrange(len(nodes))
        if nodes[node].input and nodes[source].output:
            return ["proto.wire", node, rng.randrange(len(nodes[node].input)), source, 0]
    if nodes and rng.random() < 0.12:
        return ["proto.set", ["graph", "node", rng.randrange(len(nodes)), "op_type"], rng.choice(_OPERATORS)]
    message, where = model, []
    while True:
        fields = message.ListFields()
        if not fields or (where and rng.random() < 0.05):
            unset = [f for f in message.DESCRIPTOR.fields if f.message_type is None and not _repeated(f)]
            field = rng.choice(unset) if unset else None
            return _scalar(rng, [*where, field.name], field, None) if field else ["proto.delete", where]
        field, value = rng.choice(fields)
        where.append(field.name)
        if _repeated(field):
            number = rng.randrange(len(value))
            where.append(number)
            value = value[number]
        if field.message_type is None:
            return _scalar(rng, where, field, value)
        if rng.random() < 0.12:
            return [rng.choice(("proto.delete", "proto.copy")), where]
        message = value


def _repeated(field: Any) -> bool:
    return bool(getattr(field, "is_repeated", False) if hasattr(field, "is_repeated") else field.label == 3)


def _scalar(rng: random.Random, where: list[Any], field: Any, value: Any) -> list[Any]:
    """An edit of one plain field, by its type."""
    if rng.random() < 0.1:
        return ["proto.delete", where]
    if field.type == field.TYPE_BYTES:
        old = bytes(value or b"")
        new = rng.choice((b"", old[: len(old) // 2], old + b"\0" * 8, bytes(rng.randrange(256) for _ in range(16))))
        return ["proto.set", where, {"$bytes": new[:4096].hex()}]
    if field.type == field.TYPE_STRING:
        return ["proto.set", where, rng.choice(TEXTS)]
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return ["proto.set", where, rng.choice((0.0, 1.0, -1.0, 1e30, {"$float": "nan"}, {"$float": "inf"}))]
    if isinstance(value, int) and rng.random() < 0.4:
        return ["proto.set", where, value + rng.choice((-1, 1, 2, 8, 64))]
    return ["proto.set", where, rng.choice(SIZES)]


_OPERATORS = (
    "Gather", "Reshape", "Transpose", "Concat", "Split", "Slice", "Mul", "Add", "Sub", "Neg", "Cast", "Expand", "Tile",
    "Range", "ConstantOfShape", "Shape", "Unsqueeze", "Squeeze", "Cos", "Sin", "MatMul", "Einsum", "If", "Loop", "Scan",
    "RotaryEmbedding", "GroupQueryAttention", "Attention", "RopeRotate", "RopeRotateQK", "Where", "ScatterND", "Pad",
    "SequenceAt", "Identity", "Constant", "NonZero", "Resize", "DequantizeLinear", "NoSuchOperator", "",
)  # fmt: skip


# --- lines, bytes, files ------------------------------------------------------------------------------------------


def _apply_text(path: Path, kind: str, arguments: list[Any]) -> None:
    lines = path.read_text("utf-8", errors="surrogateescape").split("\n")
    number, *rest = arguments
    if not 0 <= number < len(lines):
        return
    lines[number : number + (kind != "text.insert")] = [] if kind == "text.delete" else rest
    path.write_text("\n".join(lines), "utf-8", errors="surrogateescape")


def _random_text(rng: random.Random, path: Path) -> list[Any]:
    lines = path.read_text("utf-8", errors="replace").split("\n")
    number = rng.randrange(len(lines))
    roll = rng.random()
    if roll < 0.15:
        return ["text.delete", number]
    if roll < 0.3:
        return ["text.insert", number, rng.choice(lines)]
    key = lines[number].split("=")[0].strip() or "x"
    return ["text.replace", number, f"{key} = {_toml(any_value(rng), rng)}"]


def _toml(value: Any, rng: random.Random) -> str:
    """`value` as TOML writes it; what it has no word for becomes something malformed."""
    if value is None or (isinstance(value, dict) and value and "$float" not in value):
        return rng.choice(('"x', "[", "{", "''' ", "1_", "1979-05-27"))
    return str(made(value)) if isinstance(value, dict | float) else as_json(value)


def _apply_bytes(path: Path, kind: str, arguments: list[Any]) -> None:
    content = bytearray(path.read_bytes())
    at = int(arguments[0] * len(content))
    if kind == "bytes.put":
        new = bytes.fromhex(arguments[1])
        content[at : at + len(new)] = new
    elif kind == "bytes.drop":
        del content[at : at + arguments[1]]
    else:
        del content[at:]
    path.write_bytes(content)


def _random_bytes(rng: random.Random) -> list[Any]:
    # The head of a binary file has its lengths and names: half of all edits go there.
    at = rng.random() * rng.choice((1.0, 1.0, 0.05, 0.005))
    roll = rng.random()
    if roll < 0.7:
        new = rng.choice(("ff", "00", "ffffffffffffff7f", "0000000000000080", f"{rng.randrange(256):02x}", "7b" * 40))
        return ["bytes.put", at, new]
    return ["bytes.cut", at] if roll < 0.85 else ["bytes.drop", at, rng.choice((1, 8, 100))]


def _apply_file(path: Path, kind: str, arguments: list[Any]) -> None:
    if not path.parent.is_dir():
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "file.empty":
        path.touch()
    elif kind == "file.fifo":
        os.mkfifo(path)
    elif kind == "file.folder":
        path.mkdir()
    elif kind == "file.link":
        path.symlink_to(arguments[0])


_APPLY = {
    "json": _apply_json,
    "proto": _apply_proto,
    "text": _apply_text,
    "bytes": _apply_bytes,
    "file": _apply_file,
    "tamper": apply_tampering,
}
_DRAW = {".json": _random_json, ".onnx": _random_proto, ".toml": _random_text}
