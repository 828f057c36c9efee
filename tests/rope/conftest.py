"""transformers' own answer to compare with, and how far two fp32 arrays are apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

from rope_deploy.rope import fp32_power

transformers.logging.set_verbosity_error()  # it warns of unusual but working parameters
torch.set_num_threads(1)

# PyTorch runs the same kernel everywhere, but how many values of an array it takes depends on the processor.
# Where ours is told apart (x86-64 on Linux) results are equal to the bit; elsewhere the power may be an ulp off.
_ASSUMED = {32: "AVX512", 16: "AVX2"}.get(fp32_power._lanes())
_EQUAL = sys.platform == "linux" and torch.backends.cpu.get_cpu_capability() == _ASSUMED

Reference = Callable[..., tuple[dict[str, Any], np.ndarray, float]]


def reference(
    parameters: dict[str, Any], *, head_dim: int, max_position: int = 4096, seq_len: int | None = None, **keys: Any
) -> tuple[dict[str, Any], np.ndarray, float]:
    """A configuration as transformers writes it, and the frequencies and attention factor it derives from it."""
    config = transformers.PhiConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        max_position_embeddings=max_position,
        rope_parameters=dict(parameters),
        **{"partial_rotary_factor": parameters.get("partial_rotary_factor", 1.0), **keys},
    )
    rope_type = config.rope_parameters["rope_type"]
    compute = ROPE_INIT_FUNCTIONS.get(rope_type, PhiRotaryEmbedding.compute_default_rope_parameters)
    inv_freq, factor = compute(config, torch.device("cpu"), seq_len=seq_len)
    return config.to_dict(), inv_freq.numpy(), float(factor)


def ulps(a: np.ndarray, b: np.ndarray) -> int:
    """Largest distance of two fp32 arrays, in representable numbers."""
    assert a.dtype == b.dtype == np.float32
    assert a.shape == b.shape
    return int(np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32).astype(np.int64)).max(initial=0))


@pytest.fixture(scope="session", name="reference")
def _reference() -> Reference:
    return reference


@pytest.fixture(scope="session", name="ulps")
def _ulps() -> Callable[[np.ndarray, np.ndarray], int]:
    return ulps


@pytest.fixture(scope="session")
def slack() -> int:
    """Ulps by which frequencies may differ from PyTorch's on this machine: none, where its kernel is known."""
    return 0 if _EQUAL else 4
