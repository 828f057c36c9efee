"""Recurrences over tokens, one Scan each: the layers beside attention in hybrid models, for any length.

transformers computes them in chunks of a fixed length, padded and looped over in Python; a tracer freezes how many
chunks there were. Here the state goes from token to token; chunks are a faster form of the same:

    S ← a S + k ⊗ β (v − k·a S)     o = q·S          the delta rule, gated by a
    S ← a S + k ⊗ v                 o = q·S          Mamba2 (k, v, q are B, x dt, C) and lightning attention
    h ← a h + x                     o = h            RG-LRU

All arithmetic is float32. Shapes: B batch, S tokens, N heads, G groups of R heads each, K and V sizes of a head.

Sources: Yang et al., Gated Delta Networks (arXiv 2412.06464); Kimi Linear (2510.26692), whose decay is one a channel;
Dao and Gu, Transformers are SSMs (2405.21060); Qin et al., Lightning Attention-2 (2401.04658); De et al., Griffin
(2402.19427).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from rope_deploy.models.torch_private import scan_op


def gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **_,
) -> tuple[Tensor, Tensor | None]:
    """query and key [B, S, G, K], value [B, S, N, V], g [B, S, N] or [B, S, N, K] (logarithms, at most 0), beta
    [B, S, N], initial_state [B, N, K, V] -> [B, S, N, V] in the type of query, and the new state if it is asked for."""
    dtype, groups, (heads, width) = query.dtype, key.shape[2], value.shape[2:]
    query, key, value, g, beta = (x.to(torch.float32) for x in (query, key, value, g, beta))
    if use_qk_l2norm_in_kernel:
        query, key = _unit(query), _unit(key)
    query = query * key.shape[-1] ** -0.5
    decay = g.exp().unsqueeze(-1) if g.ndim == 4 else g.exp()[..., None, None]
    start = value.new_zeros(value.shape[0], heads, key.shape[-1], width) if initial_state is None else initial_state
    out, state = _linear(
        query.unsqueeze(3),
        key.unsqueeze(3),
        value.unflatten(2, (groups, -1)),
        decay.unflatten(2, (groups, -1)),
        start.to(torch.float32).unflatten(1, (groups, -1)),
        beta.unflatten(2, (groups, -1)),
    )
    return out.flatten(2, 3).to(dtype), state.flatten(1, 2) if output_final_state else None


def mamba2(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    **_,
) -> Tensor | tuple[Tensor, Tensor]:
    """hidden_states [B, S, N, V], dt [B, S, N], A [N] (negative), B and C [B, S, G, K], D and dt_bias [N],
    initial_states [B, N, V, K] -> float32 [B, S, N, V], and the new states if they are asked for."""
    groups = B.shape[2]
    dt = dt if dt_bias is None else dt + dt_bias.to(dt.dtype)
    dt = F.softplus(dt) if dt_softplus else dt
    dt = _limited(dt, dt_limit, initial_states).float()
    x = hidden_states.float()
    heads, width = x.shape[2:]
    start = x.new_zeros(x.shape[0], heads, width, B.shape[-1]) if initial_states is None else initial_states.float()
    out, state = _linear(
        C.float().unsqueeze(3),
        B.float().unsqueeze(3),
        (x * dt.unsqueeze(-1)).unflatten(2, (groups, -1)),
        (A.float() * dt).exp().unflatten(2, (groups, -1))[..., None, None],
        start.transpose(2, 3).unflatten(1, (groups, -1)),
    )
    out = out.flatten(2, 3)
    out = out if D is None else out + D.unsqueeze(-1) * x
    return (out, state.flatten(1, 2).transpose(2, 3)) if return_final_states else out


def _limited(dt: Tensor, limit: tuple[float, float], states: Tensor | None) -> Tensor:
    """dt [B, S, N] within `limit`, except where one token continues a sequence: the kernels for that, and
    what transformers has instead of them, have no limits. Only the state at a beginning is all zero.
    """
    least, most = limit
    within = torch.clamp(dt, min=least, max=None if most == float("inf") else most)
    if states is None or (least, most) == (0.0, float("inf")):
        return within
    alone = torch.arange(dt.shape[1], device=dt.device)[-1] == 0
    return torch.where(alone & (states != 0).any(), dt, within)


def lightning_attention(
    query: Tensor, key: Tensor, value: Tensor, slope: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """query and key [B, S, N, K], value [B, S, N, V], slope [N, 1, 1] (a is e^-slope), state [B, N, K, V]
    -> [B, S, N, V] and the new state, both in the type of value."""
    dtype = value.dtype
    query, key, value, slope = (x.to(torch.float32) for x in (query, key, value, slope))
    batch, tokens, heads, width = value.shape
    start = value.new_zeros(batch, heads, key.shape[-1], width) if state is None else state.to(torch.float32)
    decay = torch.exp(-slope).expand(batch, tokens, heads, 1, 1)
    out, state = _linear(
        query.unsqueeze(3), key.unsqueeze(3), value.unsqueeze(3), decay.unsqueeze(3), start.unsqueeze(2)
    )
    return out.squeeze(3).to(dtype), state.squeeze(2).to(dtype)


def gated_average(x: Tensor, gate: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """x and gate [B, S, W], state [B, W] -> [B, S, W] in the type of x, and the new state in float32."""
    start = torch.zeros_like(x[:, 0], dtype=torch.float32) if state is None else state.to(torch.float32)

    # State and result are one, and a Scan whose body returns one value twice is computed wrongly by ONNX Runtime:
    # an axis more in the state makes two of it.
    def step(before: Tensor, x: Tensor, gate: Tensor) -> list[Tensor]:
        after = gate.unsqueeze(1) * before + x.unsqueeze(1)
        return [after, after.sum(dim=1)]

    state, out = _scan(step, start.unsqueeze(1), x.to(torch.float32), gate.to(torch.float32))
    return out.to(x.dtype), state.squeeze(1)


def _linear(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, state: Tensor, beta: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """query and key [B, S, G, 1, K], value [B, S, G, R, V], decay [B, S, G, R, 1 or K, 1], state [B, G, R, K, V],
    beta [B, S, G, R] -> [B, S, G, R, V] and the new state. Without beta nothing is taken away before it is added."""

    def step(state: Tensor, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, *beta: Tensor) -> list[Tensor]:
        state = state * decay
        if beta:
            value = (value - key @ state) * beta[0]
        state = state + key.transpose(-1, -2) * value
        return [state, query @ state]

    rows = [query.unsqueeze(-2), key.unsqueeze(-2), value.unsqueeze(-2), decay]
    rows += [] if beta is None else [beta[..., None, None]]
    state, out = _scan(step, state, *rows)
    return out.squeeze(-2), state


def _scan(step: Callable[..., list[Tensor]], state: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
    """`step` over the second axis of `rows`, [B, S, …]: the last state, and what each step gave, [B, S, …]."""
    state, out = scan_op(step, [state], [row.transpose(0, 1) for row in rows], ())
    return state, out.transpose(0, 1)


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(dim=-1, keepdim=True) + 1e-6)
