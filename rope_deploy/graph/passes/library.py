"""Run passes of onnx-ir and onnxscript, and say in our words when they do not take a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants_ir

from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.graph.analysis.result_size import too_large

CACHES = ("cos_cache", "sin_cache")
AGAIN = "Check the file with onnx.checker.check_model(path, full_check=True), and export it again."


def inline_functions(model: ir.Model) -> None:
    _run("Its functions cannot be written out in place", common.InlinePass(), model)


def lift_constants(model: ir.Model) -> None:
    """Every Constant becomes an initializer; strings become what onnx-ir itself makes of strings in a file."""
    lift = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    _run("Its constants cannot be read", lift, model)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.STRING and not isinstance(tensor, ir.StringTensor):
            value.const_value = ir.StringTensor(tensor.numpy(), shape=ir.Shape(tensor.shape), name=tensor.name)


def infer_shapes(model: ir.Model) -> None:
    _run("Its shapes cannot be found", common.ShapeInferencePass(), model)


def merge_equal(model: ir.Model, limit: int) -> None:
    """Equal constants of at most `limit` elements become one, then equal nodes do.

    Tables of rotations stay: two rotations may have equal ones, and a manifest names each by its own.
    """
    known = model.graph.initializers
    kept = {name: known.pop(name) for name in list(known) if name.endswith(CACHES)}
    _run("Its constants cannot be compared", common.DeduplicateInitializersPass(size_limit=limit), model)
    known.update(kept)
    _run("Its nodes cannot be compared", common.CommonSubexpressionEliminationPass(), model)


def fold_constants(model: ir.Model, limit: int) -> None:
    """Work out what depends on constants alone, from and to `limit` elements."""

    def fold(model: ir.Model) -> None:
        may = partial(_may_fold, limit=limit)
        fold_constants_ir(model, input_size_limit=limit, output_size_limit=limit, should_fold=may)

    _run("Its constants cannot be folded", fold, model)


def remove_identities(model: ir.Model) -> None:
    _run("Its Identity nodes cannot be removed", common.IdentityEliminationPass(), model)


def _may_fold(node: ir.Node, limit: int) -> bool | None:
    """False for a node whose result is too large to be worked out; None leaves the choice to the folder.

    Large constants, which are weights, are not read.
    """
    tensors = [None if value is None else value.const_value for value in node.inputs]
    known = [tensor for value, tensor in zip(node.inputs, tensors, strict=True) if value is not None]
    if any(tensor is None or tensor.size > limit for tensor in known):
        return None
    inputs = [None if tensor is None else tensor.numpy() for tensor in tensors]
    return False if too_large(node.op_type, inputs, _attributes(node)) else None


def _attributes(node: ir.Node) -> Mapping[str, object]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _run(refusal: str, step: Callable[[ir.Model], object], model: ir.Model) -> None:
    """Raise UsageError where a library's pass raises: they have no errors of their own for a graph they do not take."""
    try:
        step(model)
    except (RopeDeployError, MemoryError, OSError):
        raise
    except Exception as error:
        raise UsageError(f"{refusal}: the graph is not what its operators' schemas say.", todo=AGAIN) from error
