"""Check the tensors of a file: a known type, a sane shape, and exactly as much data as these two need."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.unsound_error import Unsound, quoted_name

LONGEST_AXIS = 2**31 - 1
MOST_ELEMENTS = 2**40
# fmt: off
# Which field holds the elements of a type when raw_data does not.
FIELDS = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.COMPLEX64), "float_data"),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.COMPLEX128), "double_data"),
    **dict.fromkeys((TensorProto.UINT32, TensorProto.UINT64), "uint64_data"),
    TensorProto.INT64: "int64_data",
    TensorProto.STRING: "string_data",
}
# fmt: on
ALL_FIELDS = ("float_data", "double_data", "uint64_data", "int64_data", "int32_data", "string_data")
# Types that are packed: bits of an element. (onnx-ir knows them too, but takes most of a second to import, and every
# process that runs a graph reads a graph.)
PACKED = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.INT2, TensorProto.UINT2), 2),
    **dict.fromkeys((TensorProto.FLOAT6E2M3, TensorProto.FLOAT6E3M2), 6),
}
KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


@dataclass(frozen=True)
class ExternalData:
    """Where the data of a tensor are."""

    path: str
    offset: int
    bytes: int


def check_shape(dims: list[int], what: str) -> int:
    """How many elements a tensor of `dims` has. Raises Unsound for a negative axis or more than can be."""
    count = 1
    for dim in dims:
        if not 0 <= dim <= LONGEST_AXIS:
            raise Unsound(f"{what} has an axis of {dim} elements")
        count *= dim
    if count > MOST_ELEMENTS:
        raise Unsound(f"{what} has {count:.3g} elements")
    return count


def check_tensor(tensor: TensorProto, what: str, files: ExternalFiles) -> ExternalData | None:
    """Where `tensor` lies outside the graph file, None for one inside it. Raises Unsound.

    Data in the graph file are read once, so that no later reader fails on them; data outside are not read.
    """
    if tensor.data_type not in KNOWN_TYPES:
        raise Unsound(f"{what} has elements of an unknown type, number {tensor.data_type}")
    if tensor.HasField("segment"):
        raise Unsound(f"{what} is a segment of a tensor, which is not read here")
    count = check_shape(list(tensor.dims), what)
    kind = tensor.data_type
    if tensor.data_location == TensorProto.EXTERNAL:
        return _external(tensor, what, files, count)
    if kind == TensorProto.STRING:
        if len(tensor.string_data) != count or tensor.HasField("raw_data"):
            raise Unsound(f"{what} should have {count} strings and has {len(tensor.string_data)}")
        return None
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != _bytes(count, kind):
            raise Unsound(f"{what} should have {_bytes(count, kind)} bytes and has {len(tensor.raw_data)}")
        if any(len(getattr(tensor, field)) for field in ALL_FIELDS):
            raise Unsound(f"{what} states its elements twice")
        return None
    _check_fields(tensor, what, count)
    return None


def _external(tensor: TensorProto, what: str, files: ExternalFiles, count: int) -> ExternalData:
    stated = {entry.key: entry.value for entry in tensor.external_data}
    if any(isinstance(text, bytes) for text in (*stated, *stated.values())):  # as protobuf gives what is not UTF-8
        raise Unsound(f"{what} lies in another file whose location is no text")
    if not stated.get("location"):
        raise Unsound(f"{what} lies in another file, which is not named")
    if tensor.data_type == TensorProto.STRING:
        raise Unsound(f"{what} holds strings outside the graph file")
    if tensor.HasField("raw_data"):
        raise Unsound(f"{what} states its elements twice")
    path, size = files.find(stated["location"])
    offset, length = (_number(stated.get(key, ""), f"{key} of {what}") for key in ("offset", "length"))
    needed = _bytes(count, tensor.data_type)
    if length not in (None, needed):
        raise Unsound(f"{what} should have {needed} bytes and states {length}")
    end = (offset or 0) + needed
    if size is not None and end > size:
        raise Unsound(f"{what} ends at byte {end} of {quoted_name(stated['location'])}, which is cut short at {size}")
    return ExternalData(path, offset or 0, needed)


def _number(text: str, what: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Unsound(f"the {what} is {quoted_name(text)}, which is no number of bytes")
    return int(text)


def element_bits(kind: int) -> int:
    """How many bits an element of the type with this number takes in raw_data; not for strings."""
    return PACKED.get(kind) or 8 * tensor_dtype_to_np_dtype(kind).itemsize


def _bytes(count: int, kind: int) -> int:
    return -(-count * element_bits(kind) // 8)


def _check_fields(tensor: TensorProto, what: str, count: int) -> None:
    field = FIELDS.get(tensor.data_type, "int32_data")
    needed = count
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        needed = 2 * count
    elif element_bits(tensor.data_type) in (2, 4):  # several in one; six bits have one each
        needed = _bytes(count, tensor.data_type)
    found = {name: len(getattr(tensor, name)) for name in ALL_FIELDS}
    if found.pop(field) != needed or any(found.values()):
        raise Unsound(f"{what} should have {needed} elements in {field} and has {len(getattr(tensor, field))}")
    import onnx_ir as ir  # here and not above: see PACKED. Exports keep raw_data, so few tensors come this far

    try:
        onnx.numpy_helper.to_array(tensor)
        ir.from_proto(tensor).numpy()
    except Exception:  # numpy, ml_dtypes and onnx each raise their own for a number that does not fit the type
        raise Unsound(
            f"{what} has numbers that do not fit its type, {TensorProto.DataType.Name(tensor.data_type).lower()}"
        ) from None
