"""Run a rewritten file beside the original, with the same small calls, each file in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from rope_deploy.errors import CheckFailed, RopeDeployError, RuntimeCrashed, VendorError
from rope_deploy.graph.reading.declared_inputs import Input, inputs_of
from rope_deploy.runs.trial_calls import TrialCall, trial_calls
from rope_deploy.runtimes import Arrays, open_isolated

OPENER = "rope_deploy.runtimes.ort_any_file:open_any_file"
SECONDS = 300  # for opening one file and all its calls
FARTHEST = 4096  # positions beyond this round the angles of the original visibly
# Of the largest number of an output. Fused operators add up in another order, and layers amplify it.
EXACT = 1e-3
HALF_ROUNDINGS = 32.0
Answer = Arrays | RopeDeployError


def run_both(source: Path, result: Path, rows: int, *, dtype: str = "float32", angles_changed: bool = False) -> str:
    """Run `result`, rewritten from `source`, and return a sentence that states the outcome.

    `rows` positions can be asked of both. `dtype` is the shortest type that the rotated tensors have. With
    `angles_changed` the original's angles were imprecise, so only small positions are compared, as in a half type.

    Raises CheckFailed if the original answers a call and the result fails or answers otherwise.
    """
    inputs = inputs_of(source)
    if strange := [one for one in inputs if one.dtype in ("", "bfloat16") or not _is_known(one)]:
        return f"Not run: nothing can be fed to {strange[0].name} ({strange[0].dtype or 'of no type'})."
    rows = min(rows, FARTHEST)
    why = ""
    for batch in (2, 1):
        calls = trial_calls(inputs, rows, batch=batch, far=not angles_changed)
        right = _answers(source, calls)
        if any(not isinstance(answer, RopeDeployError) for answer in right):
            return _compared(result, calls, right, _tolerance("float16" if angles_changed else dtype))
        why = str(right[0])
    return f"Not run: the original cannot be run here: {why}"


def _is_known(one: Input) -> bool:
    return np.dtype(one.dtype).kind in "fiub" and np.dtype(one.dtype).isbuiltin == 1


def _tolerance(dtype: str) -> float:
    return max(EXACT, HALF_ROUNDINGS * float(ml_dtypes.finfo(dtype).eps))


def _answers(path: Path, calls: Sequence[TrialCall]) -> list[Answer]:
    """Run each call on the file at `path`: its outputs, or the error that stands for them."""
    try:
        with open_isolated(path.name, OPENER, {"path": str(path), "seconds": SECONDS}) as runtime:
            answers: list[Answer] = []
            for call in calls:
                try:
                    answers.append(runtime.run(call.feeds))
                except RuntimeCrashed as error:  # the next call would take as long, or crash as well
                    return answers + [error] * (len(calls) - len(answers))
                except VendorError as error:
                    answers.append(error)
            return answers
    except VendorError as error:
        return [error] * len(calls)


def _compared(result: Path, calls: Sequence[TrialCall], right: Sequence[Answer], tolerance: float) -> str:
    worst, count = 0.0, 0
    for call, want, got in zip(calls, right, _answers(result, calls), strict=True):
        if isinstance(want, RopeDeployError):
            continue
        if isinstance(got, RopeDeployError):
            raise _failed(f"the original answers {call.description}, the rewritten file does not", str(got))
        for name, expected in want.items():
            difference = _difference(expected, got.get(name))
            if not difference <= tolerance:
                raise _failed(*_describe(call, name, expected, got.get(name), difference, tolerance))
            worst = max(worst, difference)
        count += 1
    calls_made = f"{count} call{'s' if count > 1 else ''}"
    return (
        f"Run beside the original in ONNX Runtime: {calls_made}, every output within {worst:.1e} of its largest number."
    )


def _difference(want: np.ndarray, got: np.ndarray | None) -> float:
    """The largest difference relative to the largest number; infinite where shapes differ, or what is no number."""
    if got is None or want.shape != got.shape or want.dtype != got.dtype:
        return np.inf
    if want.dtype.kind not in "fV":
        return 0.0 if np.array_equal(want, got) else np.inf
    want, got = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(want[~finite], got[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return np.inf
    largest = float(np.abs(want[finite]).max(initial=0.0))
    return float(np.abs(want[finite] - got[finite]).max(initial=0.0)) / (largest or 1.0)


def _describe(
    call: TrialCall, name: str, want: np.ndarray, got: np.ndarray | None, difference: float, tolerance: float
) -> tuple[str, str]:
    """What an output does instead of what it should, and what rounding would explain."""
    if got is None:
        return f"output {name} is gone", ""
    if want.shape != got.shape or want.dtype != got.dtype:
        text = f"{got.dtype} {list(got.shape)} instead of {want.dtype} {list(want.shape)}"
        return f"output {name} is {text}, for {call.description}", ""
    if not np.isfinite(difference):
        return f"output {name} has other entries that are no number, for {call.description}", ""
    largest = np.abs(want[np.isfinite(want)].astype(np.float64)).max(initial=0.0)
    text = f"output {name} is off by {difference * (largest or 1.0):.3g} for {call.description}"
    return text, f"Its largest number is {largest:.3g}; rounding explains {tolerance * largest:.1g}."


def _failed(text: str, exists: str) -> CheckFailed:
    return CheckFailed(
        f"The rewritten file does not answer as the original does: {text}.",
        exists=exists,
        todo="Nothing was written. This is a fault in rope-deploy unless a mistake was accepted; please report it with "
        "the file. --no-run writes it all the same.",
    )
