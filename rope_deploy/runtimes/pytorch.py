"""Run the PyTorch model behind the same interface: the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from rope_deploy.runtimes.protocol import Arrays

if TYPE_CHECKING:
    import torch

    from rope_deploy.models import Exact, LoadedModel, Piece
    from rope_deploy.runtimes.targets import Target


class TorchRuntime:
    """A loaded model. Made by `open_torch`."""

    name = "torch"
    taps = True

    def __init__(self, loaded: LoadedModel, threads: int | None = None):
        self._loaded, self._threads, self._before, self._patches = loaded, threads, 0, ExitStack()
        self._untouched_results: dict[bytes, np.ndarray] = {}

    @cached_property
    def exact(self) -> ExactTorch:
        """The same model with its weights as they are, computed in a wider type."""
        from rope_deploy.models import Exact

        return ExactTorch(Exact(self._loaded))

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        from rope_deploy.models import run_reference

        return run_reference(self._loaded, dict(feeds), taps, cache=_cached(feeds))

    def perturbed(self, feeds: Mapping[str, np.ndarray], seed: int) -> Arrays:
        """The result of `run` with taps, its roundings perturbed by `seed`."""
        from rope_deploy.models import run_perturbed

        return run_perturbed(self._loaded, dict(feeds), seed, cache=_cached(feeds))

    def untouched(self, result: str) -> UntouchedTorch | UntouchedTower | None:
        """The same model as transformers runs it, before the first token of a text; `result` names its output.

        None for a model that could not be copied.
        """
        model = self._loaded.untouched
        if model is None:
            return None
        if self._loaded.task == "tower":
            return UntouchedTower(model)
        return UntouchedTorch(model, result, self._untouched_results)

    def __enter__(self) -> Self:
        """Set the number of threads, and put the patches that a run needs in place once for all runs."""
        from rope_deploy.models import patched

        self._patches.enter_context(patched(self._loaded.model, "run"))
        if self._threads is not None:
            import torch

            self._before = torch.get_num_threads()
            torch.set_num_threads(self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The model stays with its owner, without patches; the number of threads becomes what it was."""
        self._patches.close()
        if self._before:
            import torch

            torch.set_num_threads(self._before)


class _Borrowing:
    """A runtime on a model that stays with its owner: nothing is opened or closed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class UntouchedTorch(_Borrowing):
    """A model as transformers runs it, without any patch of ours, in the middle of a text. Made by `untouched`.

    Each call continues the one before: the cache is the model's own, and so are masks and positions; of its feeds it
    reads the tokens and the padding. It returns the result alone.
    """

    name = "torch, untouched"
    taps = False

    def __init__(self, model: torch.nn.Module, result: str, known: dict[bytes, np.ndarray]):
        self._model, self._result, self._known = model, result, known
        self._pieces: list[Piece] = []

    @cached_property
    def exact(self) -> ExactUntouched:
        """The same model computed in a wider type."""
        return ExactUntouched(self._model, self._result, self._known, self._pieces)

    def perturbed(self, feeds: Mapping[str, np.ndarray], seed: int) -> Arrays:
        """The result of the last `run`, its roundings perturbed by `seed`."""
        from rope_deploy.models import run_untouched

        return {self._result: run_untouched(self._model, self._pieces, perturbed_by=seed)}

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        from rope_deploy.models import Piece, run_untouched

        ids, mask = feeds["input_ids"], feeds.get("attention_mask")
        padded = mask is not None and not np.all(mask == 1)
        on_the_left = padded and not np.all(mask[:, 0] == 1)
        positions = feeds.get("position_ids") if on_the_left else None
        self._pieces.append(Piece(ids, mask if padded else None, positions))
        if (key := _key(self._pieces)) not in self._known:
            self._known[key] = run_untouched(self._model, self._pieces)
        return {self._result: self._known[key]}


class UntouchedTower(_Borrowing):
    """A tower as transformers runs it, without any patch of ours. Made by `untouched`."""

    name = "torch, untouched"
    taps = False
    exact = None

    def __init__(self, model: torch.nn.Module):
        self._model = model

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        from rope_deploy.models import run_untouched_tower

        return run_untouched_tower(self._model, dict(feeds))


class ExactUntouched(_Borrowing):
    """A model as transformers runs it, in a wider type: its result for the last call of the other."""

    name = "torch, untouched, exact"
    taps = False

    def __init__(self, model: torch.nn.Module, result: str, known: dict[bytes, np.ndarray], pieces: Sequence[Piece]):
        from rope_deploy.models import Widened

        self._model, self._result, self._known, self._pieces = model, result, known, pieces
        self._wide = Widened(model)

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        from rope_deploy.models import run_untouched

        if (key := b"wide" + _key(self._pieces)) not in self._known:
            self._known[key] = run_untouched(self._model, self._pieces, wide=self._wide)
        return {self._result: self._known[key]}


def _key(pieces: Sequence[Piece]) -> bytes:
    return b"".join(_bytes(array) for piece in pieces for array in (piece.input_ids, piece.mask, piece.position_ids))


def _bytes(array: np.ndarray | None) -> bytes:
    return b"-" if array is None else f"{array.shape}".encode() + np.ascontiguousarray(array, np.int64).tobytes()


class ExactTorch(_Borrowing):
    """A model computed in a wider type; see `TorchRuntime.exact`. Nothing else may run it meanwhile."""

    name = "torch, exact"
    taps = True
    exact = None

    def __init__(self, run: Exact):
        self._run = run

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        return self._run(feeds, taps, cache=_cached(feeds))


def _cached(feeds: Mapping[str, np.ndarray]) -> bool:
    """Whether the feeds hold a cache; that of a first prompt has length 0."""
    return any(name.startswith("past_key_values.") for name in feeds)


def open_target(target: Target) -> TorchRuntime:
    """The loaded model of `target`; see `targets`."""
    return open_torch(target.loaded, threads=target.threads)


def open_torch(loaded: LoadedModel, *, threads: int | None = None) -> TorchRuntime:
    """Wrap what `models.load_model` returned. `threads` holds for all of PyTorch while the runtime is entered."""
    return TorchRuntime(loaded, threads)
