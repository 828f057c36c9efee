"""Explain why a model cannot be traced: the kind of obstacle, the operator, and the line of the model's code.

The messages of torch.export, numpy or a dictionary are about their own insides; `--traceback` shows them.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch

from rope_deploy.errors import ModelError, RopeDeployError
from rope_deploy.models.library_errors import root_of
from rope_deploy.models.torch_private import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    GuardOnDataDependentSymNode,
    UnsupportedOperatorException,
    UserError,
)

WITHOUT_CONTENT = re.compile(r"device\W+meta\b|\bmeta (device|tensor)")
LIBRARIES = ("torch", "onnx_ir", "onnxscript", "numpy", "accelerate")
OURS = Path(__file__).parent
ONE_PATH = "A graph has one path for all data: compute both and choose with torch.where, or make it a constant."

# The first class that fits names the obstacle and what to do.
OBSTACLES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (GuardOnDataDependentSymNode, DataDependentOutputException),
        "control flow that depends on data",
        ONE_PATH,
    ),
    (
        (DynamicOutputShapeException,),
        "a result whose size depends on data",
        "Keep the size and mask what does not count.",
    ),
    (
        (UnsupportedOperatorException, NotImplementedError),
        "an operator that PyTorch cannot trace",
        "Write it with operators that PyTorch can trace.",
    ),
    (
        (torch.onnx.errors.OnnxExporterError,),
        "an operator without a translation to ONNX",
        "Write it with other operators.",
    ),
)


def untraceable(source: str, model_type: str, error: BaseException) -> ModelError:
    """The error for a model that torch.export or torch.onnx could not follow; `error` is what they raised."""
    root = root_of(error)
    about = f"PyTorch cannot export {source} ({model_type}): "
    if isinstance(root, RopeDeployError):
        return ModelError(about + root.asked, exists=root.exists, todo=root.todo)
    what, todo = _obstacle(error)
    todo = f"{todo} --traceback shows what PyTorch said.".lstrip()
    return ModelError(f"{about}{what}.", exists=code_outside(error), todo=todo)


def cannot_be_called(source: str, model_type: str, error: BaseException) -> ModelError:
    """The error for a model whose own code raises `error` when it is called as it is."""
    what, todo = _obstacle(error, doing="called")
    todo = f"{todo} --traceback shows what it said.".lstrip()
    return ModelError(f"{source} ({model_type}) cannot be called: {what}.", exists=code_outside(error), todo=todo)


def _obstacle(error: BaseException, doing: str = "traced") -> tuple[str, str]:
    if any(isinstance(one, RuntimeError) and WITHOUT_CONTENT.search(str(one)) for one in _chain(error)):
        return (
            "its code computes with a tensor that has no content; transformers 5 makes models without memory",
            "Keep the tensor in a buffer of its module, compute it in forward, or give a factory that makes the model.",
        )
    for one in _chain(error):
        for kinds, what, todo in OBSTACLES:
            if isinstance(one, kinds):
                operator = getattr(one, "func", None)
                return what + (f" ({operator})" if operator is not None else ""), todo
    if any(isinstance(one, UserError) for one in _chain(error)):
        axes = [name for name in ("batch", "sequence", "past") if f"({name}" in str(error) or f"{name})" in str(error)]
        which = f" ({', '.join(axes)})" if axes else ""
        return f"its code allows only some sizes of an axis{which}", "Write it so that it holds for every size."
    return f"its code fails with {type(root_of(error)).__name__} when it is {doing}", ""


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def code_outside(error: BaseException) -> str:
    """The innermost line of code that is neither a library's nor ours; "" if there is none."""
    for one in reversed(_chain(error)):
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            path = Path(frame.filename)
            if path.is_relative_to(OURS) or set(path.parts) & set(LIBRARIES) or not path.is_file():
                continue
            return f"It happens in {frame.name}, {frame.filename}:{frame.lineno}: {frame.line}"
    return ""
