"""Transpose weights: they are stored in the order in which a matrix product reads them.

PyTorch stores a linear layer's weight as [out, in] and multiplies by its transpose. A Transpose of a weight in
the graph is folded by a runtime at load time, at the price of a second copy in memory; here the transposed weight
is written instead. A weight that is also read as it is (tied embeddings) stays one tensor with its Transpose.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


class TransposeWeightsPass(ir.passes.InPlacePass):
    """Replaces Transpose(weight) by the transposed weight wherever the weight has no other use.

    Requires nothing. Ensures that nothing is copied until the weight is written. Changes nothing where a weight has
    other users, such as tied embeddings.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        for node in list(graph):
            if node.op_type != "Transpose" or node.inputs[0].name not in graph.initializers:
                continue
            weight, out = node.inputs[0], node.outputs[0]
            perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
            if len(weight.uses()) != 1 or len(weight.shape) != 2 or (perm is not None and tuple(perm) != (1, 0)):
                continue
            del graph.initializers[weight.name]
            tensor = _transposed(weight.const_value, weight.name)
            value = ir.Value(
                name=weight.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape), const_value=tensor
            )
            graph.register_initializer(value)
            out.replace_all_uses_with(value)
            graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified)


def _transposed(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
    rows, columns = tensor.shape

    def write() -> ir.Tensor:
        return ir.Tensor(np.ascontiguousarray(tensor.numpy().T), dtype=tensor.dtype, name=name)

    return ir.LazyTensor(write, dtype=tensor.dtype, shape=ir.Shape([columns, rows]), name=name)
