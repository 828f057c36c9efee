"""The plugin from Python: plugins/tests/rope_driver.cpp through ctypes, and where both libraries come from.

Imports nothing but the standard library and numpy, so that it also runs where only the GPU tests do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int32, c_int64, c_void_p
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

# nvinfer1::DataType, PluginFieldType, TensorFormat and TensorRTPhase, as far as they are needed.
FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = 0, 1, 2, 3, 4, 5, 6, 7, 8
FIELD_FLOAT32, FIELD_INT32, FIELD_INT64, FIELD_CHAR = 1, 5, 10, 6
LINEAR, CHW2, HWC8 = 0, 1, 2
BUILD, RUNTIME = 0, 1
NO_COLLECTION, NO_FIELDS = -1, -2  # field counts that TensorRT would not send


class _Field(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("data", c_void_p), ("type", c_int32), ("length", c_int32)]


class _Tensor(ctypes.Structure):
    _fields_ = [("type", c_int32), ("format", c_int32), ("rank", c_int32), ("size", c_int64 * 8)]


@dataclass(frozen=True)
class Tensor:
    """Shape (-1: not known yet), type and format of an input or output."""

    shape: tuple[int, ...]
    type: int = FLOAT
    format: int = LINEAR

    def of(self, type: int) -> Tensor:
        return replace(self, type=type)


def field(value: object) -> tuple[int, np.ndarray]:
    """An attribute as the ONNX parser passes it: its field type and its values."""
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind == "f":
        return FIELD_FLOAT32, array.astype(np.float32)
    return FIELD_INT32, array.astype(np.int32)


class Driver:
    """Takes and returns plain values, plugins as numbers, so that it can also live in a process of its own."""

    def __init__(self, driver: str, library: str):
        self._library = ctypes.CDLL(driver)
        for name in ("open", "heard", "timing_id", "identity"):
            getattr(self._library, f"driver_{name}").restype = c_char_p
        for name in ("create", "clone", "attach", "serialize_and_create"):
            getattr(self._library, f"driver_{name}").restype = c_void_p
        error = self._library.driver_open(library.encode())
        if error is not None:
            raise OSError(error.decode())

    def log_as(self, version: int, answer: int = 0) -> None:
        """Give the library the logger finder of TensorRT `version`, which finds one (0), none (1), or throws (2)."""
        self._library.driver_log_as(version, answer)

    def heard(self) -> str:
        return self._library.driver_heard().decode()

    def severity(self) -> int:
        return self._library.driver_severity()

    def declared(self, operation: str) -> dict[str, tuple[int, int]]:
        """Type and length of each field of the creator."""
        found, name, length = {}, c_char_p(), c_int32()
        while (kind := self._library.driver_field(operation.encode(), len(found), byref(name), byref(length))) >= 0:
            found[name.value.decode()] = (kind, length.value)
        return found

    def create(self, operation: str, attributes: dict, phase: int = BUILD, layer: str = "layer") -> int | None:
        """A plugin, or None if it was refused."""
        return self.create_raw(operation, [(name, *field(value)) for name, value in attributes.items()], phase, layer)

    def create_raw(
        self,
        operation: str,
        fields: Sequence[tuple[str | None, int, np.ndarray | None]] | int,
        phase: int = BUILD,
        layer: str | None = "layer",
    ) -> int | None:
        """`fields`: name, type number and values; or NO_COLLECTION, NO_FIELDS."""
        count = fields if isinstance(fields, int) else len(fields)
        specs = (_Field * max(count, 1))()
        for spec, (name, kind, values) in zip(specs, [] if isinstance(fields, int) else fields):
            spec.name, spec.type = None if name is None else name.encode(), kind
            spec.data, spec.length = (None, 1) if values is None else (values.ctypes.data, values.size)
        label = None if layer is None else layer.encode()
        return self._library.driver_create(operation.encode(), label, specs, count, phase)

    def clone(self, plugin: int) -> int:
        return self._library.driver_clone(c_void_p(plugin))

    def attach(self, plugin: int) -> int:
        return self._library.driver_attach(c_void_p(plugin))

    def serialize_and_create(self, plugin: int) -> int | None:
        return self._library.driver_serialize_and_create(c_void_p(plugin))

    def destroy(self, plugin: int) -> None:
        self._library.driver_destroy(c_void_p(plugin))

    def timing_id(self, plugin: int) -> str:
        return self._library.driver_timing_id(c_void_p(plugin)).decode()

    def identity(self, plugin: int) -> str:
        return self._library.driver_identity(c_void_p(plugin)).decode()

    def outputs(self, plugin: int) -> int:
        return self._library.driver_outputs(c_void_p(plugin))

    def output_types(self, plugin: int, types: Sequence[int], outputs: int) -> list[int] | None:
        given, made = (c_int32 * len(types))(*types), (c_int32 * outputs)()
        code = self._library.driver_output_types(c_void_p(plugin), given, len(types), made, outputs)
        return list(made) if code == 0 else None

    def output_shapes(self, plugin: int, inputs: Sequence[Tensor], outputs: int) -> list[tuple[int, ...]] | None:
        made = (_Tensor * outputs)()
        code = self._library.driver_output_shapes(c_void_p(plugin), _tensors(inputs), len(inputs), made, outputs)
        return [tuple(one.size[: one.rank]) for one in made] if code == 0 else None

    def supports(self, plugin: int, position: int, tensors: Sequence[Tensor], inputs: int) -> bool:
        return bool(
            self._library.driver_supports(c_void_p(plugin), position, _tensors(tensors), inputs, len(tensors) - inputs)
        )

    def configure(self, plugin: int, tensors: Sequence[Tensor], inputs: int) -> int:
        return self._library.driver_configure(c_void_p(plugin), _tensors(tensors), inputs, len(tensors) - inputs)

    def shape_change(self, plugin: int, tensors: Sequence[Tensor], inputs: int) -> int:
        return self._library.driver_shape_change(c_void_p(plugin), _tensors(tensors), inputs, len(tensors) - inputs)

    def enqueue(
        self, plugin: int, tensors: Sequence[Tensor], inputs: Sequence[int], outputs: Sequence[int], stream: int = 0
    ) -> int:
        """`inputs` and `outputs` are addresses on the device. 0, or 1 after a message."""
        reads, writes = (c_void_p * len(inputs))(*inputs), (c_void_p * len(outputs))(*outputs)
        return self._library.driver_enqueue(
            c_void_p(plugin), _tensors(tensors), len(inputs), len(outputs), reads, writes, c_void_p(stream)
        )


def _tensors(tensors: Sequence[Tensor]) -> ctypes.Array:
    made = (_Tensor * max(len(tensors), 1))()
    for one, tensor in zip(made, tensors):
        one.type, one.format, one.rank = tensor.type, tensor.format, len(tensor.shape)
        one.size[: len(tensor.shape)] = tensor.shape
    return made


def tensors_of(
    attributes: dict,
    q: Sequence[int],
    k: Sequence[int] | None,
    rows: int,
    *,
    real: int = FLOAT,
    cache: int = FLOAT,
    index: int = INT64,
) -> list[Tensor]:
    """Inputs, then outputs, of the operator with `attributes` for q (and k), shapes as they come in."""
    rotary_dim = attributes.get("rotary_dim", 0) or attributes["head_dim"]
    heads_axis = attributes.get("heads_axis", 1)
    moved = [Tensor(tuple(shape), real) for shape in (q, k) if shape is not None]
    table = Tensor((rows, rotary_dim // 2), cache)
    axes = (3,) if any(attributes.get("sections", ())) else ()
    where = Tensor((*axes, q[0], q[3 - heads_axis]), index)
    weights = [Tensor((attributes["head_dim"],), cache)] * len(moved) if attributes.get("norm_eps", 0) else []
    outputs = moved
    if attributes.get("out_heads_axis", 0) not in (0, heads_axis):
        outputs = [replace(x, shape=(x.shape[0], x.shape[2], x.shape[1], x.shape[3])) for x in moved]
    return [*moved, table, table, where, *weights, *outputs]


@dataclass(frozen=True)
class Built:
    """A folder that CMake built in with ROPE_BUILD_TESTS."""

    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / "librope_plugin.so"

    @property
    def host_library(self) -> Path:
        """The plugin with the kernel compiled for the CPU."""
        return self.folder / "librope_plugin_host.so"

    @property
    def driver(self) -> Path:
        return self.folder / "librope_driver.so"
