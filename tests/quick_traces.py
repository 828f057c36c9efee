"""Traces of tiny models cost half as much: what PyTorch makes anew for each, or keeps for larger ones, is made once.

What is traced stays the same, byte for byte (test_quick_traces.py).
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any


@cache
def quicken() -> None:
    """For the rest of this process. PyTorch has been imported."""
    import torch._dynamo.config
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    # Keys of this cache cost more than the calls that it saves in models of two layers.
    torch._dynamo.config.fake_tensor_cache_enabled = False
    made = cache(ONNXRegistry.from_torchlib)

    def from_torchlib(*arguments: Any, **options: Any) -> ONNXRegistry:
        """Torchlib's functions in a registry of the caller's own: collecting them takes most of a second."""
        registry = copy.copy(made(*arguments, **options))
        registry.functions = {target: list(functions) for target, functions in registry.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(from_torchlib)
