"""Check one node by itself: inputs and attributes, against the schema of its operator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import onnx
from onnx import AttributeProto

from rope_deploy.graph.rotating_operators import WHOLE_ATTRIBUTES, operator_of
from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.tensors import check_tensor
from rope_deploy.graph.validation.unsound_error import Unsound, node_label, quoted_name

# An attribute of ONNX Runtime's operators that is read here; onnx has no schema of them.
FRACTIONS = frozenset({"scale"})
LARGEST_WHOLE = 2**31 - 1
# Of each type of attribute, the field that holds it.
# fmt: off
FIELDS = {
    AttributeProto.FLOAT: "f", AttributeProto.INT: "i", AttributeProto.STRING: "s", AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g", AttributeProto.SPARSE_TENSOR: "sparse_tensor", AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats", AttributeProto.INTS: "ints", AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors", AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors", AttributeProto.TYPE_PROTOS: "type_protos",
}
# fmt: on
SPARSE = (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS)


def check_node(node: onnx.NodeProto, opsets: Mapping[str, int], files: ExternalFiles, *, in_function: bool) -> None:
    """Raise Unsound unless `node` has the inputs that its operator needs and attributes of the right types.

    Graphs among the attributes are not looked into.
    """
    stated: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if attribute.name in stated:
            raise Unsound(f"{node_label(node)} states {quoted_name(attribute.name)} twice")
        stated[attribute.name] = attribute
        _check_attribute(attribute, node, files, in_function=in_function)
    if node.domain == "":
        _check_by_schema(node, stated, opsets)
    else:
        _check_without_schema(node, stated)


def _check_attribute(attribute: AttributeProto, node: onnx.NodeProto, files: ExternalFiles, *, in_function: bool):
    what = f"{quoted_name(attribute.name)} of {node_label(node)}"
    if not attribute.name:
        raise Unsound(f"{node_label(node)} has an attribute without a name")
    if attribute.type not in FIELDS or attribute.type in SPARSE:
        raise Unsound(f"{what} is of a type that is not read here")
    if attribute.ref_attr_name:
        if not in_function:
            raise Unsound(f"{what} refers to an attribute of a function and stands outside of one")
        return
    fields = {field.name for field, _ in attribute.ListFields()}
    if strange := fields - {FIELDS[attribute.type], "name", "type", "doc_string"}:
        raise Unsound(f"{what} states its value as {', '.join(sorted(strange))}, not as its type says")
    if attribute.type in (AttributeProto.STRING, AttributeProto.STRINGS):
        for text in (attribute.s, *attribute.strings):
            _decode(text, what)
    for tensor in (attribute.t,) if attribute.type == AttributeProto.TENSOR else attribute.tensors:
        check_tensor(tensor, what, files)


def _decode(text: bytes, what: str) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise Unsound(f"{what} is no text") from None


@lru_cache(maxsize=4096)
def _schema(op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:  # the caller then checks without one
        return None


@lru_cache(maxsize=4096)
def _inputs_of(op_type: str, version: int) -> tuple[int, int, tuple[bool, ...]]:
    """(fewest, most, which must be there) of the inputs."""
    schema = _schema(op_type, version)
    needed = tuple(value.option == onnx.defs.OpSchema.FormalParameterOption.Single for value in schema.inputs)
    return schema.min_input, schema.max_input, needed


@lru_cache(maxsize=4096)
def _attributes_of(op_type: str, version: int) -> dict[str, tuple[int, bool]]:
    """Type, and whether it is required, of each attribute."""
    schema = _schema(op_type, version)
    return {name: (int(stated.type.value), stated.required) for name, stated in schema.attributes.items()}


def _check_by_schema(node: onnx.NodeProto, stated: Mapping[str, AttributeProto], opsets: Mapping[str, int]) -> None:
    if (version := opsets.get("")) is None:
        raise Unsound(f"{node_label(node)} is a standard operator, and no opset of these is stated")
    if _schema(node.op_type, version) is None:
        return  # ONNX Runtime keeps some of its own operators in this domain, as SimplifiedLayerNormalization
    least, most, needed = _inputs_of(node.op_type, version)
    if not least <= len(node.input) <= most:
        raise Unsound(f"{node_label(node)} has {len(node.input)} inputs; it takes {_span(least, most)}")
    for number, (name, must) in enumerate(zip(node.input, needed, strict=False)):
        if must and not name:
            raise Unsound(f"{node_label(node)} lacks its input {number}")
    known = _attributes_of(node.op_type, version)
    for name, attribute in stated.items():
        if name in known and attribute.type != known[name][0]:
            kinds = [AttributeProto.AttributeType.Name(kind).lower() for kind in (attribute.type, known[name][0])]
            raise Unsound(
                f"{quoted_name(name)} of {node_label(node)} is of type {kinds[0]}; the operator takes {kinds[1]}"
            )
    for name, (_, required) in known.items():
        if required and name not in stated:
            raise Unsound(f"{node_label(node)} lacks its attribute {name}")


def _check_without_schema(node: onnx.NodeProto, stated: Mapping[str, AttributeProto]) -> None:
    rotating = operator_of(node)
    least = 0 if rotating is None else rotating.least_inputs
    if len(node.input) < least or not all(node.input[:least]):
        raise Unsound(f"{node_label(node)} has {len([n for n in node.input if n])} inputs; it takes at least {least}")
    for name, attribute in stated.items():
        whole = name in WHOLE_ATTRIBUTES
        if attribute.ref_attr_name or not (whole or name in FRACTIONS):
            continue
        if attribute.type != (AttributeProto.INT if whole else AttributeProto.FLOAT):
            raise Unsound(f"{quoted_name(name)} of {node_label(node)} is no number of the kind that the operator takes")
        if whole and not -1 <= attribute.i <= LARGEST_WHOLE:
            raise Unsound(f"{quoted_name(name)} of {node_label(node)} is {attribute.i}")


def _span(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least} to {most}" if most < LARGEST_WHOLE else f"at least {least}"
