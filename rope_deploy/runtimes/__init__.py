"""Runtimes: one interface for whatever runs a model. Named arrays go in, named arrays come out."""

from rope_deploy.runtimes.cache_layout import (
    as_past,
    compact_layers,
    empty_past,
    in_cache_layout,
    to_compact,
    token_axes,
)
from rope_deploy.runtimes.feed_checks import check_feeds, counted_positions
from rope_deploy.runtimes.generate import greedy
from rope_deploy.runtimes.isolated import Isolated, open_isolated
from rope_deploy.runtimes.memoized import Memoized
from rope_deploy.runtimes.onnx_runtime import OrtRuntime, open_ort
from rope_deploy.runtimes.protocol import Arrays, Measurable, Reference, Runtime
from rope_deploy.runtimes.pytorch import TorchRuntime, open_torch
from rope_deploy.runtimes.targets import Target, open_in_child, open_runtime
from rope_deploy.runtimes.trt_engine import TrtRuntime, open_trt

__all__ = [
    "Arrays",
    "Isolated",
    "Measurable",
    "Memoized",
    "OrtRuntime",
    "Reference",
    "Runtime",
    "Target",
    "TorchRuntime",
    "TrtRuntime",
    "as_past",
    "check_feeds",
    "compact_layers",
    "counted_positions",
    "empty_past",
    "greedy",
    "in_cache_layout",
    "open_in_child",
    "open_isolated",
    "open_ort",
    "open_runtime",
    "open_torch",
    "open_trt",
    "to_compact",
    "token_axes",
]
