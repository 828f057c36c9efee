"""Passes of onnx-ir and onnxscript, with our errors where a graph does not fit them.

Those libraries have no error of their own for a graph that breaks the schemas of its operators: whatever Python makes
of it is raised from deep inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.errors import RopeDeployError, UsageError

ADVICE = "Check the file with onnx.checker.check_model(path, full_check=True), and export it again."


class LibraryPass(ir.passes.InPlacePass):
    """Runs `inner`, an in-place pass of a library.

    Requires and ensures what `inner` does. Raises UsageError, beginning with `refusal`, where `inner` fails.
    """

    def __init__(self, inner: ir.passes.PassBase, refusal: str):
        self._inner, self._refusal = inner, refusal

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        with refusing(self._refusal):
            return ir.passes.PassResult(model, self._inner(model).modified)


@contextmanager
def refusing(refusal: str) -> Iterator[None]:
    """Inside the block every error of a library is a UsageError that begins with `refusal`."""
    try:
        yield
    except (RopeDeployError, MemoryError, OSError):
        raise
    except Exception as error:
        raise UsageError(f"{refusal}: the graph is not what its operators' schemas say.", todo=ADVICE) from error


def inline_functions() -> LibraryPass:
    """Write the body of every model-local function where it is called."""
    return LibraryPass(common.InlinePass(), "Its functions cannot be written out in place")


def infer_shapes() -> LibraryPass:
    """Infer types and shapes from those of the inputs, by onnx; where onnx fails, they stay as they are."""
    return LibraryPass(common.ShapeInferencePass(), "Its shapes cannot be found")


def remove_identities() -> LibraryPass:
    """Let whoever reads an Identity read what it copies."""
    return LibraryPass(common.IdentityEliminationPass(), "Its Identity nodes cannot be removed")
