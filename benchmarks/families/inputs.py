"""What a model is fed: by the names of its inputs, and where a name leaves a shape open, every usual one in turn."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.families.census import Family
from benchmarks.families.shrink import VOCAB

BATCH, LENGTH = 2, 7
FIRST_WORD, LAST_WORD = 5, VOCAB - 20  # others have a meaning
FRAMES, SAMPLES, GRID = 64, 4000, (1, 4, 4)  # spectrum frames, audio samples, patches in time, height and width


def candidates(family: Family, model: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """Keyword arguments for the model's forward, the likeliest first; a model takes the first that it runs with."""
    names = inspect.signature(model.forward).parameters
    if "input_ids" in names and family.category not in ("vision", "audio"):
        yield {name: made for name, made in text().items() if name in names}
        return
    sizes = _Sizes(model.config)
    if "grid_thw" in names or "image_grid_thw" in names:
        grid = "grid_thw" if "grid_thw" in names else "image_grid_thw"
        patches = next(name for name in ("hidden_states", "pixel_values") if name in names)
        number, side = GRID[0] * GRID[1] * GRID[2], (sizes.channels, sizes.patch, sizes.patch)
        flat = [(number, width) for width in sizes.patch_widths]
        for shape in (*flat, (number, *side), (1, number, *side)):
            yield {patches: _floats(*shape), grid: torch.tensor([GRID]), **_others(names, sizes, (shape,))}
        return
    fed = [name for name in names if name in FLOATS and _needed(names[name])]
    for shapes in itertools.product(*(_shapes(name, sizes) for name in fed)) if fed else ():
        floats = (_floats(*shape) for shape in shapes)
        yield {**dict(zip(fed, floats, strict=True)), **_others(names, sizes, shapes)}


def text(batch: int = BATCH, length: int = LENGTH, seed: int = 1) -> dict[str, torch.Tensor]:
    """Tokens to read and to write; all of them real."""
    ids = torch.randint(FIRST_WORD, LAST_WORD, (batch, length), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids}


MAIN = ("pixel_values", "input_features", "input_values", "audio_values")
FLOATS = ("pixel_values", "pixel_values_videos", "input_features", "input_values", "audio_values", "hidden_states")


class _Sizes:
    """The sizes that shapes are made of, under any of the names that configurations have for them."""

    def __init__(self, config: Any):
        self._config = config
        self.image = self._first("image_size", default=32)
        self.channels = self._first("num_channels", "in_channels", "in_chans", default=3)
        self.patch = self._first("patch_size", "spatial_patch_size", default=8)
        self.time = self._first("temporal_patch_size", default=1)
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
            return [(BATCH, *image), (1, *image), (BATCH, 1, *image), (BATCH, 16, sizes.patch_widths[0])]
        case "pixel_values_videos":
            return [(BATCH, 2 * sizes.time, *image), (BATCH, 4, *image)]
        case "input_features":
            return [(BATCH, sizes.mel, FRAMES), (BATCH, FRAMES, sizes.mel), (sizes.mel, FRAMES)]
        case "input_values" | "audio_values":
            return [(BATCH, SAMPLES), (BATCH, 1, SAMPLES)]
    return [(BATCH, LENGTH, sizes.hidden), (16, sizes.hidden)]


def _others(names, sizes: _Sizes, shapes) -> dict[str, Any]:
    """Inputs that follow from the main one."""
    found: dict[str, Any] = {}
    batch = shapes[0][0]
    if "image_sizes" in names:
        found["image_sizes"] = [(sizes.image, sizes.image)] * batch
    if "merge_sizes" in names:
        found["merge_sizes"] = torch.tensor([2])
    if "decoder_input_ids" in names:
        found["decoder_input_ids"] = text(batch)["input_ids"]
    if "input_ids" in names and _needed(names["input_ids"]):
        found["input_ids"] = text(batch)["input_ids"]
    return found


def _floats(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
