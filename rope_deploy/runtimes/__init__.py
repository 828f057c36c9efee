"""One interface for whatever can run the model: open it, give it named arrays, get named arrays back."""

from rope_deploy.runtimes.cache_rows import as_kept, as_past, compact, compacting_layers, empty_past, row_axes
from rope_deploy.runtimes.feeds import check_feeds, counted
from rope_deploy.runtimes.generate import greedy
from rope_deploy.runtimes.isolated import Isolated, open_isolated
from rope_deploy.runtimes.onnx_runtime import OrtRuntime, open_ort
from rope_deploy.runtimes.protocol import Arrays, Runtime
from rope_deploy.runtimes.pytorch import TorchRuntime, open_torch
from rope_deploy.runtimes.registry import CHECKED, RUNTIMES, RuntimeRecord, Target, open_in_child, open_runtime
from rope_deploy.runtimes.remembered_answers import Remembering
from rope_deploy.runtimes.trt_engine import TrtRuntime, open_trt

__all__ = [
    "CHECKED",
    "RUNTIMES",
    "Arrays",
    "Isolated",
    "OrtRuntime",
    "Remembering",
    "Runtime",
    "RuntimeRecord",
    "Target",
    "TorchRuntime",
    "TrtRuntime",
    "as_kept",
    "as_past",
    "check_feeds",
    "compact",
    "compacting_layers",
    "counted",
    "empty_past",
    "greedy",
    "open_in_child",
    "open_isolated",
    "open_ort",
    "open_runtime",
    "open_torch",
    "open_trt",
    "row_axes",
]
