"""PyTorch's own cosine and sine for numpy arrays: tables made with them equal the model's to the last bit."""

from __future__ import annotations

import numpy as np
import torch


def cos(x: np.ndarray) -> np.ndarray:
    return torch.cos(torch.from_numpy(np.ascontiguousarray(x))).numpy()


def sin(x: np.ndarray) -> np.ndarray:
    return torch.sin(torch.from_numpy(np.ascontiguousarray(x))).numpy()
