"""Every private name of PyTorch that rope_deploy uses, imported in this one module.

PyTorch may move or remove them in any release. Raises EnvironmentMissing at import if one of them is gone.
"""

from __future__ import annotations

import torch

from rope_deploy.models.private_names import gone

SEEN_IN = "2.13"

try:
    from torch._dynamo.exc import UserError
    from torch._higher_order_ops.scan import scan_op
    from torch._ops import OpOverload
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensor,
        UnsupportedOperatorException,
    )
    from torch._subclasses.functional_tensor import FunctionalTensor
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
    from torch.nn.modules.conv import _ConvNd
    from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
    from torch.utils._pytree import tree_any, tree_leaves, tree_map_only

    ConvNd = _ConvNd
    disable_current_modes = _disable_current_modes
    torch.nn.Module()._non_persistent_buffers_set  # noqa: B018 - its absence is the error
    torch.ops.aten.add.Tensor._schema, torch.ops.aten.add.Tensor._overloadname  # noqa: B018
except (ImportError, AttributeError) as error:
    raise gone("torch", SEEN_IN, error) from error

__all__ = [
    "SEEN_IN",
    "ConvNd",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FunctionalTensor",
    "GuardOnDataDependentSymNode",
    "OpOverload",
    "TorchDispatchMode",
    "UnsupportedOperatorException",
    "UserError",
    "computed_buffers",
    "disable_current_modes",
    "is_mutable",
    "overload_of",
    "own_buffers",
    "own_parameters",
    "scan_op",
    "schema_of",
    "tree_any",
    "tree_leaves",
    "tree_map_only",
    "uncompiled",
]


def own_buffers(module: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    """The buffers of `module` without those of its children, by name: the dictionary itself, which may be changed."""
    return module._buffers


def own_parameters(module: torch.nn.Module) -> dict[str, torch.nn.Parameter | None]:
    """The parameters of `module` without those of its children, by name: the dictionary itself."""
    return module._parameters


def computed_buffers(module: torch.nn.Module) -> set[str]:
    """The names of the buffers of `module` that no checkpoint holds."""
    return module._non_persistent_buffers_set


def schema_of(operator: object) -> torch.FunctionSchema | None:
    """What `operator` takes, writes and returns; None for a function that is no operator of torch."""
    return getattr(operator, "_schema", None)


def is_mutable(operator: object) -> bool:
    """Whether `operator` writes into one of its arguments."""
    return getattr(schema_of(operator), "is_mutable", False)


def overload_of(operator: OpOverload, packet: object) -> OpOverload | None:
    """The overload of `packet` that has the name of that of `operator`; None if there is none."""
    return getattr(packet, operator._overloadname, None)


def uncompiled(model: torch.nn.Module) -> torch.nn.Module:
    """`model`, or the module that torch.compile wrapped in it."""
    return getattr(model, "_orig_mod", model)
