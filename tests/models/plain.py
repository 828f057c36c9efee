"""Modules that are no models of transformers: what `package.module:factory` may return."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests import tiny

VOCAB, HEADS, HEAD, WIDTH = 61, 4, 16, 64


class Layer(nn.Module):
    """One attention with a rotation written by hand: neighbours are pairs, the first 8 of 16 elements rotate."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, mask, cos, sin, of_q=None):
        batch, tokens, _ = x.shape
        q, k, v = (t.view(batch, tokens, HEADS, HEAD).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        q, k = rotate(q, *(of_q or (cos, sin))), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))


def rotate(x, cos, sin):
    turning, rest = x[..., :8], x[..., 8:]
    a, b = turning[..., 0::2], turning[..., 1::2]
    return torch.cat([torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2), rest], dim=-1)


class Plain(nn.Module):
    """A causal language model without a cache. Its configuration, if any, is a plain dictionary."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.register_buffer("frequencies", 10_000.0 ** (-torch.arange(0, 8, 2).float() / 8), persistent=False)

    def forward(self, input_ids, attention_mask, position_ids):
        tokens = input_ids.shape[1]
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=input_ids.device).tril()
        mask = causal[None, None] & (attention_mask[:, None, None, :] == 1)
        angles = position_ids[:, None, :, None].float() * self.frequencies
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, mask, angles.cos(), angles.sin())
        return self.head(x)


class Placed(Plain):
    """The same with tokens that stand elsewhere than they are said to: q and k each where `positions_of` puts them."""

    def __init__(self, positions_of):
        super().__init__()
        self.positions_of = positions_of

    def forward(self, input_ids, attention_mask, position_ids):
        tokens = input_ids.shape[1]
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=input_ids.device).tril()
        mask = causal[None, None] & (attention_mask[:, None, None, :] == 1)
        of_q, of_k = (at[:, None, :, None].float() * self.frequencies for at in self.positions_of(position_ids))
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, mask, of_k.cos(), of_k.sin(), (of_q.cos(), of_q.sin()))
        return self.head(x)


class HalfAngles(Plain):
    """The same with its angles worked out in fp16, whatever its weights are in."""

    def forward(self, input_ids, attention_mask, position_ids):
        tokens = input_ids.shape[1]
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=input_ids.device).tril()
        mask = causal[None, None] & (attention_mask[:, None, None, :] == 1)
        angles = (position_ids[:, None, :, None].half() * self.frequencies.half()).float()
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, mask, angles.cos(), angles.sin())
        return self.head(x)


class BfloatAngles(HalfAngles):
    """cos and sin are taken in bfloat16 as well."""

    def forward(self, input_ids, attention_mask, position_ids):
        tokens = input_ids.shape[1]
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=input_ids.device).tril()
        mask = causal[None, None] & (attention_mask[:, None, None, :] == 1)
        angles = position_ids[:, None, :, None].bfloat16() * self.frequencies.bfloat16()
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, mask, angles.cos().float(), angles.sin().float())
        return self.head(x)


class WithoutRotation(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB)

    def forward(self, input_ids, attention_mask, position_ids):
        return self.head(self.embed(input_ids))


class Pixels(nn.Module):
    def forward(self, pixel_values):
        return pixel_values


class Around(nn.Module):
    """A model of transformers behind a module that returns its logits alone."""

    def __init__(self):
        super().__init__()
        self.inner = tiny.build("llama")

    def forward(self, input_ids, attention_mask, position_ids):
        return self.inner(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        ).logits


def _seeded(made):
    torch.manual_seed(3)
    return made()


def plain():
    return _seeded(Plain)


def plain_with_config():
    module = plain()
    module.config = {"head_dim": 16, "rotary_dim": 8, "rope_theta": 10_000.0, "max_position_embeddings": 64}
    return module


def plain_with_another_base():
    module = plain_with_config()
    module.config |= {"rope_theta": 1_000.0, "vocab_size": VOCAB}
    return module


def in_place():
    return _seeded(lambda: Placed(lambda at: (at, at)))


def shifted():
    """q stands five positions after its k, so that position 0 is rotated too (Perceiver AR)."""
    return _seeded(lambda: Placed(lambda at: (at + 5, at)))


def clamped():
    return _seeded(lambda: Placed(lambda at: (at.clamp(max=40), at.clamp(max=40))))


def wrapped():
    return _seeded(lambda: Placed(lambda at: (at % 48, at % 48)))


def half_angles():
    return _seeded(HalfAngles)


def half_angles_with_config():
    module = half_angles()
    module.config = plain_with_config().config
    return module


def bfloat_angles_with_config():
    module = _seeded(BfloatAngles)
    module.config = plain_with_config().config
    return module


def without_rotation():
    return _seeded(WithoutRotation)


def pixels():
    return Pixels()


def around():
    return Around()


def llama():
    return tiny.build("llama")


def fails():
    raise RuntimeError("no weights today")


def number():
    return 7


def takes_arguments(size):
    return size
