"""What a model that reads no text is fed: images, patches, spectra, samples.

Floating-point arguments of the model's forward, and tokens, become inputs of the graph. Every other argument (the
grid of an image, the sizes of pieces) is read by the model's Python code as numbers: it is fixed, part of the graph,
and named in the manifest. A user gives an example of all arguments in a file; without one it is made from the
configuration, by the names of the arguments; where these leave a shape open, the usual ones are tried one by one.

Shapes: B images or recordings, P patches, C channels.
"""

from __future__ import annotations

import inspect
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rope_deploy.errors import ModelError, RopeDeployError, UsageError, quoted
from rope_deploy.safe_reading import require_regular, require_small

TOKENS = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
MAIN = ("pixel_values", "input_features", "input_values", "audio_values")
FLOATS = (*MAIN, "pixel_values_videos", "pixel_values_images", "hidden_states")
GRIDS = ("grid_thw", "image_grid_thw")
BATCH, LENGTH = 2, 7
FRAMES, SAMPLES, GRID = 64, 4000, (1, 4, 6)  # spectrum frames, samples, patches in time, height and width
PAIR = 2  # images to be matched
SOME_TOKEN = 5  # the first few have a meaning of their own


@dataclass(frozen=True)
class Example:
    """Arguments of a forward by name: `tensors` are inputs of the graph, `fixed` numbers that it was made for."""

    tensors: Mapping[str, torch.Tensor]
    fixed: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, torch.Tensor]:
        return {**self.tensors, **self.fixed}


def takes(model: torch.nn.Module | type[torch.nn.Module]) -> tuple[str, ...]:
    """What the forward of `model`, an instance or a class, calls its arguments."""
    return tuple(name for name in inspect.signature(model.forward).parameters if name not in ("self", "kwargs"))


def handed_on(model: torch.nn.Module) -> tuple[str, ...]:
    """What the model inside takes besides, where the forward of `model` hands on whatever it does not name (Evolla)."""
    inner = getattr(model, "base_model", model)
    kinds = {parameter.kind for parameter in inspect.signature(model.forward).parameters.values()}
    return takes(inner) if inner is not model and inspect.Parameter.VAR_KEYWORD in kinds else ()


LARGEST_PATCH = 4096  # a row may be a patch, or an image of many


def reads_text(model: torch.nn.Module | type[torch.nn.Module]) -> bool:
    """Whether the forward of `model` takes tokens and nothing else that it needs; if not, it is treated as a tower.

    An encoder-decoder takes two texts, whose lengths have nothing to do with one another: it is one too. A class that
    is still to be found is taken to read text.
    """
    if not hasattr(model, "forward"):
        return True
    parameters = inspect.signature(model.forward).parameters
    needed = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    return "input_ids" in parameters and "decoder_input_ids" not in parameters and not needed & set(FLOATS)


def example_of(arguments: Mapping[str, Any]) -> Example:
    """`arguments`, tensors or what can be made one, sorted into inputs and numbers."""
    made = {name: torch.as_tensor(value) for name, value in arguments.items()}
    given = {name for name, value in made.items() if value.is_floating_point() or name in TOKENS}
    return Example(
        {name: value for name, value in made.items() if name in given},
        {name: value for name, value in made.items() if name not in given},
    )


def read_example(path: Path, model: torch.nn.Module) -> Example:
    """The arguments in `path`, an .npz file with an array for each. Raises UsageError if they are not the model's."""
    try:
        require_regular(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            require_small(file.zip, path)
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except RopeDeployError:
        raise
    except Exception as error:  # numpy raises several kinds for a file that is not an .npz
        raise UsageError(
            f"{path} is not an .npz file of arrays, or it is damaged.",
            todo="Write it with numpy.savez(FILE, name=array, …).",
        ) from error
    known = takes(model)
    if (strange := [name for name in arrays if name not in known]) or not arrays:
        raise UsageError(
            f"{path} holds {', '.join(strange) or 'nothing'}, which the model does not take.",
            exists=f"Its forward takes: {', '.join(known)}.",
        )
    rows = max((len(array) for array in arrays.values() if array.is_floating_point() and array.ndim), default=0)
    for name, array in arrays.items():
        if "grid" in name and array.ndim == 2 and not array.is_floating_point() and rows:
            asked = sum(math.prod(map(int, row)) for row in array)
            if not 0 < asked <= rows * LARGEST_PATCH:
                raise UsageError(
                    f"{path}: {name} asks for {asked:.3g} patches, and no array has more than {rows} rows.",
                    todo="Let the grid and the patches be of the same images.",
                )
    return example_of(arrays)


def guess_example(model: torch.nn.Module) -> Example:
    """The first of `possible_arguments` that the model runs with, in its own dtype.

    What its code raises for the others is expected. Raises ModelError with the last of it if there is none.
    """
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    known = getattr(model, "config", None) is not None
    failure = "No argument has a name that is known.\n" if known else "It has no configuration.\n"
    for arguments in possible_arguments(model) if known else ():
        example = cast(example_of(arguments), dtype)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model(**example.arguments)
            return example
        except Exception as error:  # it wants another shape: whatever its code stumbles over
            failure = f"{quoted('Its code', error)}\n"
    raise ModelError(
        f"What {type(model).__name__} is to be fed does not follow from its configuration.",
        exists=f"{failure}Its forward takes: {', '.join(takes(model))}.",
        todo="Give an example of its arguments: --example FILE.npz, written with numpy.savez(FILE, name=array, …).",
    )


def cast(example: Example, dtype: torch.dtype) -> Example:
    """`example` with its floating-point tensors in `dtype`."""
    tensors = {n: v.to(dtype) if v.is_floating_point() else v for n, v in example.tensors.items()}
    return Example(tensors, example.fixed)


def possible_arguments(model: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """Arguments for the model's forward, the likeliest first."""
    parameters = inspect.signature(model.forward).parameters
    sizes = _Sizes(getattr(model, "config", None))
    if grid := next((name for name in GRIDS if name in parameters), None):
        patches = next((name for name in ("hidden_states", "pixel_values") if name in parameters), "pixel_values")
        number, side = int(np.prod(GRID)), (sizes.channels, sizes.patch, sizes.patch)
        flat = [(number, width) for width in sizes.patch_widths]
        for shape in (*flat, (number, *side), (1, number, *side)):
            yield {patches: _floats(*shape), grid: torch.tensor([GRID]), **_others(parameters, sizes, shape[0])}
        return
    fed = [name for name in parameters if name in FLOATS and _needed(parameters[name])]
    if not fed and {"input_ids", "decoder_input_ids"} <= parameters.keys():
        yield {"input_ids": _tokens(BATCH, LENGTH), "decoder_input_ids": _tokens(BATCH, LENGTH - 2)}
    for shapes in itertools.product(*(_shapes(name, sizes) for name in fed)) if fed else ():
        floats = (_floats(*shape) for shape in shapes)
        others = {**_others(parameters, sizes, shapes[0][0]), **_patch_positions(parameters, shapes[0])}
        yield {**dict(zip(fed, floats, strict=True)), **others}


class _Sizes:
    """The sizes that shapes are made of, under any of the names that configurations have for them."""

    def __init__(self, config: Any):
        self._config = config
        self.image = self._first("image_size", default=32)
        self.channels = self._first("num_channels", "in_channels", "in_chans", default=3)
        self.patch = self._first("patch_size", "spatial_patch_size", default=8)
        self.time = self._first("temporal_patch_size", "patch_temporal", default=1)
        self.mel = self._first("num_mel_bins", "input_feat_size", "feature_size", "n_mels", default=32)
        self.hidden = self._first("hidden_size", "d_model", default=64)

    def _first(self, *names: str, default: int) -> int:
        for config in (self._config, getattr(self._config, "encoder_config", None)):
            for name in names:
                value = getattr(config, name, None)
                if isinstance(value, (list, tuple)) and value:
                    value = value[0]
                if isinstance(value, int):
                    return value
        return default

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Numbers in one flattened patch: with and without its frames."""
        flat = self.channels * self.patch * self.patch
        return tuple(dict.fromkeys((flat * self.time, flat, self.hidden)))


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty or parameter.name in MAIN


def _shapes(name: str, sizes: _Sizes) -> list[tuple[int, ...]]:
    image = (sizes.channels, sizes.image, sizes.image)
    match name:
        case "pixel_values":
            patches = (sizes.image // sizes.patch) ** 2
            shapes = [(BATCH, *image), (1, *image), (BATCH, 1, *image), (1, PAIR, *image)]
            return [*shapes, *((1, patches, width) for width in sizes.patch_widths)]
        case "pixel_values_videos":
            return [(BATCH, 2 * sizes.time, *image), (BATCH, 4, *image)]
        case "input_features":
            return [(BATCH, sizes.mel, FRAMES), (BATCH, FRAMES, sizes.mel), (sizes.mel, FRAMES)]
        case "input_values" | "audio_values":
            return [(BATCH, SAMPLES), (BATCH, 1, SAMPLES)]
    return [(BATCH, LENGTH, sizes.hidden), (16, sizes.hidden)]


def _others(parameters: Mapping[str, inspect.Parameter], sizes: _Sizes, batch: int) -> dict[str, Any]:
    """Arguments that follow from the main one."""
    found: dict[str, Any] = {}
    if "image_sizes" in parameters and _needed(parameters["image_sizes"]):
        found["image_sizes"] = torch.tensor([[sizes.image, sizes.image]] * batch)
    if "merge_sizes" in parameters:
        found["merge_sizes"] = torch.tensor([2])
    for name in ("input_ids", "decoder_input_ids"):
        if name in parameters and (name != "input_ids" or _needed(parameters[name])):
            found[name] = _tokens(batch, LENGTH)
    return found


def _patch_positions(parameters: Mapping[str, inspect.Parameter], shape: tuple[int, ...]) -> dict[str, Any]:
    """Row and column of each patch of images [B, P, width], where a model asks for them: those of a square."""
    if "pixel_position_ids" not in parameters or len(shape) != 3:
        return {}
    side = max(1, round(shape[1] ** 0.5))
    number = torch.arange(shape[1])
    return {"pixel_position_ids": torch.stack([number % side, number // side], dim=-1).repeat(shape[0], 1, 1)}


def _tokens(batch: int, length: int) -> torch.Tensor:
    return SOME_TOKEN + torch.arange(batch * length).reshape(batch, length)


def _floats(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
