"""A peer: the rotation of q and k as a Triton kernel in the style of the best published ones.

One program a token: it loads the token's cos and sin once and turns all heads of q and k, each as a tile of
[heads, half], whole rows at a time. Half-split; fp32 arithmetic; projection layout [B, S, N, H] in and out.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.autotune(
    [triton.Config({}, num_warps=warps) for warps in (1, 2, 4, 8)], key=["tokens", "heads_q", "heads_k", "half"]
)
@triton.jit
def _rotate(
    q, k, q_out, k_out, cos, sin, positions, tokens,
    heads_q: tl.constexpr, heads_k: tl.constexpr, half: tl.constexpr, tile_q: tl.constexpr, tile_k: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, half)
    row = tl.load(positions + token) * half
    c = tl.load(cos + row + column)[None, :]
    s = tl.load(sin + row + column)[None, :]
    _turn(q + token * heads_q * 2 * half, q_out + token * heads_q * 2 * half, c, s, column, heads_q, half, tile_q)
    _turn(k + token * heads_k * 2 * half, k_out + token * heads_k * 2 * half, c, s, column, heads_k, half, tile_k)


@triton.jit
def _turn(x, out, c, s, column, heads: tl.constexpr, half: tl.constexpr, tile: tl.constexpr):
    head = tl.arange(0, tile)[:, None]
    first = head * 2 * half + column[None, :]
    known = head < heads
    a = tl.load(x + first, mask=known).to(tl.float32)
    b = tl.load(x + first + half, mask=known).to(tl.float32)
    tl.store(out + first, (a * c - b * s).to(out.dtype.element_ty), mask=known)
    tl.store(out + first + half, (b * c + a * s).to(out.dtype.element_ty), mask=known)


def rotate(
    q: torch.Tensor,
    k: torch.Tensor,
    q_out: torch.Tensor,
    k_out: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
) -> None:
    """q, k: contiguous [B, S, N, H], H a power of two; cos, sin: fp32 [M, H/2]; positions: int64 [B, S]."""
    batch, tokens, heads_q, size = q.shape
    heads_k = k.shape[2]
    tiles = triton.next_power_of_2(heads_q), triton.next_power_of_2(heads_k)
    _rotate[(batch * tokens,)](
        q, k, q_out, k_out, cos, sin, positions, batch * tokens, heads_q, heads_k, size // 2, *tiles
    )
