"""Every kind of unsound ONNX file is refused by validation, in words about the file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from rope_deploy.errors import UsageError
from rope_deploy.graph.io import read_proto
from rope_deploy.graph.validation.tensors import KNOWN_TYPES, element_bits
from tests.graph.sound import entry, node, tensor, whole


def lost_input(model):
    node(model, "times").input[1] = "nothing"


def empty_input(model):
    node(model, "times").input[1] = ""


def too_few_inputs(model):
    del node(model, "times").input[1]


def made_twice(model):
    node(model, "up").output[0] = "first"


def circle(model):
    node(model, "times").input[0] = "y"


def name_that_is_no_text(model):
    content = model.SerializeToString()
    return content.replace(b"times", b"tim\xb6s")


def wrong_kind_of_attribute(model):
    (axis,) = node(model, "join").attribute
    axis.type, axis.f = AttributeProto.FLOAT, 2.0
    axis.ClearField("i")


def attribute_that_says_another_type(model):
    node(model, "join").attribute[0].type = AttributeProto.TYPE_PROTO


def attribute_of_no_type(model):
    node(model, "join").attribute[0].type = AttributeProto.UNDEFINED


def lacking_attribute(model):
    del node(model, "join").attribute[:]


def axis_out_of_range(model):
    node(model, "join").attribute[0].i = 7


def shapes_that_do_not_fit(model):
    tensor(model, "scale").dims[:] = [4]
    node(model, "end").input[1] = "five"
    model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "five"))


def types_that_do_not_fit(model):
    node(model, "end").input[1] = "last"


def unknown_type(model):
    tensor(model, "scale").data_type = 99


def undefined_type(model):
    tensor(model, "scale").data_type = TensorProto.UNDEFINED


def negative_axis(model):
    tensor(model, "scale").dims[:] = [-4]


def endless_axis(model):
    tensor(model, "table").dims[:] = [2**63 - 1, 4]


def too_little_data(model):
    scale = numpy_helper.from_array(np.ones(4, np.float32), "scale")
    scale.raw_data = scale.raw_data[:-1]
    tensor(model, "scale").CopyFrom(scale)


def too_few_numbers(model):
    del tensor(model, "scale").float_data[-1]


def data_twice(model):
    tensor(model, "scale").raw_data = b"\0" * 16


def number_that_does_not_fit(model):
    bad = TensorProto(name="scale", data_type=TensorProto.FLOAT6E2M3, dims=[4], int32_data=[1, 2, 3, 1 << 20])
    tensor(model, "scale").CopyFrom(bad)


def too_few_strings(model):
    tensor(model, "scale").CopyFrom(TensorProto(name="scale", data_type=TensorProto.STRING, dims=[4]))


def sparse(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "few")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "few_indices")
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[4]))


def no_location(model):
    tensor(model, "table").external_data.remove(entry(model, "location"))


def offset_that_is_no_number(model):
    entry(model, "offset").value = "1e3"


def endless_offset(model):
    entry(model, "offset").value = "9" * 5000


def beyond_the_end(model):
    entry(model, "offset").value = "65"


def another_length(model):
    entry(model, "length").value = "64"


def outside(model):
    entry(model, "location").value = "../data"


def absolute(model):
    entry(model, "location").value = "/etc/hostname"


def no_opset(model):
    del model.opset_import[:]


def opset_of_another_domain_only(model):
    del model.opset_import[0]


def two_opsets(model):
    model.opset_import.append(helper.make_opsetid("ai.onnx", 19))


def opset_of_the_future(model):
    model.opset_import[0].version = 4711


def negative_ir_version(model):
    model.ir_version = -1


def function_that_calls_itself(model):
    model.functions[0].node.append(helper.make_node("Twice", ["a"], ["c"], domain="ours"))
    model.functions[0].opset_import.append(helper.make_opsetid("ours", 1))


def functions_that_multiply(model):
    _calling_one_another(model, 20, calls=4)


def functions_in_a_long_row(model):
    _calling_one_another(model, 200, calls=1)


def _calling_one_another(model, count, *, calls):
    """So many functions, each of which calls the one before so many times."""
    base = model.functions[0]
    base.opset_import.append(helper.make_opsetid("ours", 1))
    for number in range(count):
        one = onnx.FunctionProto(name=f"F{number}", domain="ours", input=["a"], output=[f"b{calls - 1}"])
        one.opset_import.extend(base.opset_import)
        callee = f"F{number - 1}" if number else "Twice"
        one.node.extend(helper.make_node(callee, ["a"], [f"b{n}"], domain="ours") for n in range(calls))
        model.functions.append(one)
    node(model, "call").op_type = f"F{count - 1}"


def function_of_another_opset(model):
    model.functions[0].opset_import[0].version = 17


def lost_inside_a_function(model):
    model.functions[0].node[0].input[1] = "nobody"


def input_without_a_type(model):
    model.graph.input[0].ClearField("type")


def input_of_no_tensor(model):
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(model.graph.input[0].type))


def input_with_a_negative_axis(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -4


def output_that_nobody_makes(model):
    model.graph.output[0].name = "nobody"


def huge_constant(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**5, 10**5], np.int64), "huge"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge"], ["filled"], name="fill"))
    model.graph.node.insert(1, helper.make_node("Neg", ["filled"], ["spare"], name="minus"))


def graphs_within_graphs(model):
    result = [helper.make_empty_tensor_value_info("z")]
    flat = inner = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "g", [], result)
    for number in range(25):
        branch = helper.make_node("If", ["yes"], ["z"], f"if{number}", then_branch=inner, else_branch=flat)
        inner = helper.make_graph([branch], "g", [], result)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["deep"], then_branch=inner, else_branch=flat))


def number_of_heads_that_is_text(model):
    call = node(model, "end")
    call.domain, call.op_type = "com.microsoft", "RotaryEmbedding"
    call.input.extend(["scale", "scale"])
    call.attribute.add(name="num_heads", type=AttributeProto.STRING, s=b"many")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def rotary_operator_without_its_tables(model):
    call = node(model, "end")
    call.domain, call.op_type = "com.microsoft", "RotaryEmbedding"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def no_operators(model):
    del model.graph.node[:]


UNSOUND: dict[Callable[[onnx.ModelProto], bytes | None], str] = {
    lost_input: r"node 'times' \(Mul\) reads 'nothing', which nothing makes",
    empty_input: r"node 'times' \(Mul\) lacks its input 1",
    too_few_inputs: r"node 'times' \(Mul\) has 1 inputs; it takes 2",
    made_twice: "'first' is made twice",
    circle: "lies on a circle",
    name_that_is_no_text: "has a name that is no text",
    wrong_kind_of_attribute: r"'axis' of node 'join' \(Concat\) is of type float; the operator takes int",
    attribute_that_says_another_type: "'axis' of node 'join' .* not as its type says",
    attribute_of_no_type: "'axis' of node 'join' .* is of a type that is not read here",
    lacking_attribute: r"node 'join' \(Concat\) lacks its attribute axis",
    axis_out_of_range: "join",
    shapes_that_do_not_fit: "end",
    types_that_do_not_fit: "end",
    unknown_type: "'scale' has elements of an unknown type, number 99",
    undefined_type: "'scale' has elements of an unknown type, number 0",
    negative_axis: "'scale' has an axis of -4 elements",
    endless_axis: "'table' has an axis of 9223372036854775807 elements",
    too_little_data: "'scale' should have 16 bytes and has 15",
    too_few_numbers: "'scale' should have 4 elements in float_data and has 3",
    data_twice: "'scale' states its elements twice",
    number_that_does_not_fit: "'scale' has numbers that do not fit its type",
    too_few_strings: "'scale' should have 4 strings and has 0",
    sparse: "'few' is a sparse tensor",
    no_location: "'table' lies in another file, which is not named",
    offset_that_is_no_number: "offset of the tensor 'table' is '1e3'",
    endless_offset: "offset of the tensor 'table' is '9999",
    beyond_the_end: "'table' ends at byte 193 of 'data', which is cut short at 192",
    another_length: "'table' should have 128 bytes and states 64",
    outside: r"its weights are in '\.\./data', outside its folder",
    absolute: "its weights are in '/etc/hostname', outside its folder",
    no_opset: "it states no opset",
    opset_of_another_domain_only: "is a standard operator, and no opset of these is stated",
    two_opsets: "it states two opsets of 'ai.onnx'",
    opset_of_the_future: "it states opset 4711",
    negative_ir_version: "it has IR version -1",
    function_that_calls_itself: "the function 'Twice' calls itself",
    functions_that_multiply: "more than 200000 nodes, written out",
    functions_in_a_long_row: "functions that call each other in a row",
    function_of_another_opset: "the function 'Twice' is of opset 17 and the graph of 18",
    lost_inside_a_function: "reads 'nobody', which nothing makes",
    input_without_a_type: "the input 'x' has no type",
    input_of_no_tensor: "the input 'x' has the type sequence",
    input_with_a_negative_axis: "the input 'x' has an axis of -4 elements",
    output_that_nobody_makes: "nothing makes its output 'nobody'",
    huge_constant: r"node 'fill' \(ConstantOfShape\) makes 1e\+10 elements",
    graphs_within_graphs: "graphs within each other",
    number_of_heads_that_is_text: "'num_heads' of node 'end'",
    rotary_operator_without_its_tables: r"node 'end' \(com\.microsoft\.RotaryEmbedding\) has 2 inputs",
    no_operators: "it holds no operators",
}


@pytest.mark.parametrize("change", UNSOUND, ids=lambda change: change.__name__)
def test_an_unsound_file_is_refused_with_what_is_wrong(path, change):
    model = whole(path)
    content = change(model)
    path.write_bytes(content or model.SerializeToString())
    with pytest.raises(UsageError, match=UNSOUND[change]) as caught:
        read_proto(path)
    assert str(caught.value).startswith(f"{path} is not a")
    assert "Error" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(KNOWN_TYPES - {TensorProto.STRING}))
def test_an_element_takes_as_many_bits_as_onnx_ir_says(kind):
    assert element_bits(kind) == ir.DataType(kind).bitwidth


def test_every_type_that_onnx_ir_knows_is_known():
    assert {int(kind) for kind in ir.DataType} == KNOWN_TYPES | {TensorProto.UNDEFINED}
