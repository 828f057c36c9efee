"""The sequences of passes, in the order in which they run.

`onnx_ir.passes.Sequential` is not used: it turns whatever a pass raises into its own PassError, and the errors of our
passes are for the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.passes.count_heads import CountHeadsPass
from rope_deploy.graph.passes.count_positions import CountPositionsPass
from rope_deploy.graph.passes.decompose_attention import DecomposeAttentionPass
from rope_deploy.graph.passes.divide_by_root import DivideByRootPass
from rope_deploy.graph.passes.expand_rotary_operators import ExpandRotaryOperatorsPass
from rope_deploy.graph.passes.fold_constants import FoldConstantsPass
from rope_deploy.graph.passes.free_our_names import FreeOurNamesPass
from rope_deploy.graph.passes.fuse_rms_normalization import FuseRmsNormalizationPass
from rope_deploy.graph.passes.guess_head_axes import GuessHeadAxesPass
from rope_deploy.graph.passes.keep_proven_shapes import KeepProvenShapesPass
from rope_deploy.graph.passes.library_pass import infer_shapes, inline_functions, remove_identities
from rope_deploy.graph.passes.lift_constants import LiftConstantsPass
from rope_deploy.graph.passes.merge_equal import MergeEqualPass
from rope_deploy.graph.passes.raise_to_opset_18 import RaiseToOpset18Pass
from rope_deploy.graph.passes.rename_axes import RenameAxesPass
from rope_deploy.graph.passes.set_opset import SetOpsetPass
from rope_deploy.graph.passes.split_rotation_matrices import SplitRotationMatricesPass
from rope_deploy.graph.passes.transpose_weights import TransposeWeightsPass

# Elements of a constant. Only shape arithmetic is folded; a folded weight would be a second copy of it.
FOLD_LIMIT = 1024
OPERATORS_OPSET = 23  # the first with RotaryEmbedding, Attention and RMSNormalization

Passes = Sequence[ir.passes.PassBase]


def run(model: ir.Model, passes: Iterable[ir.passes.PassBase]) -> bool:
    """Run `passes` on `model`, in place; whether one of them changed it. Raises what they raise."""
    modified = False
    for one in passes:
        modified |= one(model).modified
    return modified


def simplify() -> Passes:
    """Bring a graph to a form in which equal things are one thing; results stay bit for bit the same.

    A tracer writes every constant where it is used, so most nodes of a fresh graph compute shapes from literals, once
    per layer.
    """
    return (
        remove_identities(),  # copies hide that two nodes are equal
        LiftConstantsPass(),  # constants are compared as initializers
        MergeEqualPass(FOLD_LIMIT),  # makes folding cheap: 0.2 s for both on 30 layers, where folding alone takes 60 s
        FoldConstantsPass(FOLD_LIMIT),  # shape arithmetic becomes constants
        LiftConstantsPass(),  # folding writes Constant nodes
        MergeEqualPass(FOLD_LIMIT),  # folding makes nodes equal that were not
        common.RemoveUnusedNodesPass(),  # what was merged and folded has no readers left
    )


def after_trace() -> Passes:
    """Make a traced graph ready for raising."""
    return simplify()


def unpack_to_read() -> Passes:
    """Bring a file of any exporter to one graph; its axes have the names of the file."""
    return (
        inline_functions(),  # rotations inside functions would not be found
        LiftConstantsPass(),  # constants have to be known where shapes are inferred
    )


def unpack_to_rewrite() -> Passes:
    """The same for a graph that is written again."""
    return (
        *unpack_to_read(),
        FreeOurNamesPass(),  # before anything of ours is added
        RaiseToOpset18Pass(),  # one form of every operator for all that follows
    )


def find_shapes_to_read(symbols: Mapping[str, str]) -> Passes:
    """Find the shapes by which rotations are recognised, in our names; `symbols` are these by those of the file."""
    return (
        RenameAxesPass(symbols),  # inference begins with one name for one axis
        *_find_shapes(symbols),
    )


def find_shapes_to_rewrite(symbols: Mapping[str, str]) -> Passes:
    """The same for a graph whose rotary operators are written anew."""
    return (
        RenameAxesPass(symbols),  # inference begins with one name for one axis
        ExpandRotaryOperatorsPass(),  # rotations are raised from standard operators only; it infers what it reads
        *_find_shapes(symbols),
    )


def _find_shapes(symbols: Mapping[str, str]) -> Passes:
    return (
        *simplify(),  # shapes follow from constants
        infer_shapes(),  # as far as onnx can
        CountHeadsPass(),  # onnx does not
        RenameAxesPass(symbols),  # inference takes names from the outputs of the file
        GuessHeadAxesPass(),  # what is still unknown of heads
    )


def before_raising() -> Passes:
    """Write rotations in the form that raising recognises."""
    return (
        SplitRotationMatricesPass(),  # products with 2×2 matrices become sums of two products
    )


def before_lowering(opset: int) -> Passes:
    """Prepare the rest of a raised graph for `opset`; before the sites are lowered, whose ends are values of it."""
    return (
        DivideByRootPass(),  # runtimes fuse the division into RMS normalisation
        *([FuseRmsNormalizationPass()] if opset >= OPERATORS_OPSET else []),  # needs the division
    )


def after_lowering(opset: int, *, implicit_positions: bool) -> Passes:
    """Finish the rest of a lowered graph for `opset`; `implicit_positions` takes the input `position_ids` away."""
    return (
        *([DecomposeAttentionPass()] if opset < OPERATORS_OPSET else []),  # after fused attention had its choice
        TransposeWeightsPass(),  # weights are stored as matrix products read them
        *([CountPositionsPass()] if implicit_positions else []),  # after the rows are made of the input
        common.TopologicalSortPass(),  # passes insert nodes beside their readers
        *simplify(),  # what passes wrote once per layer becomes one
    )


def after_rewrite(declared: Mapping[str, ir.Shape | None]) -> Passes:
    """Finish a file that is written again; `declared` are the shapes that it states for inputs and outputs, by name."""
    return (
        KeepProvenShapesPass(declared),  # shapes were found in our names, and some of them guessed
    )


def as_written(opset: int) -> Passes:
    """Make of a lowered graph what is written to a file."""
    return (
        SetOpsetPass(opset),  # last of all, since it looks at every operator
        common.ClearMetadataAndDocStringPass(),  # a tracer's paths and lines of code are nobody's business
    )
