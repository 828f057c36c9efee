"""Rotations are counted by what is computed: every spelling once, and nothing that is not a rotation."""

import pytest
import torch

from conformance.families.census import select
from conformance.families.count import count
from conformance.families.inputs import possible_inputs
from conformance.families.tiny import tiny_model

HEADS, WIDTH, LENGTH = 2, 8, 5


def half(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * torch.cat([cos, cos], -1) + torch.cat([-second, first], -1) * torch.cat([sin, sin], -1)


def parts(x, cos, sin):
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


def written(x, cos, sin):
    out = torch.empty_like(x)
    out[..., ::2] = x[..., ::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 1::2] * cos + x[..., ::2] * sin
    return out


def complex_numbers(x, cos, sin):
    rotated = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * torch.complex(cos, sin)
    return torch.view_as_real(rotated).flatten(-2)


def fused(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat([-second, first], -1)
    return torch.addcmul(x * torch.cat([cos, cos], -1), swapped, torch.cat([sin, sin], -1))


def partial(x, cos, sin):
    quarter = WIDTH // 4
    return torch.cat([half(x[..., : WIDTH // 2], cos[..., :quarter], sin[..., :quarter]), x[..., WIDTH // 2 :]], -1)


def two_axes(x, cos, sin):
    left, right = x.chunk(2, dim=-1)
    quarter = WIDTH // 4
    return torch.cat([half(one, cos[..., :quarter], sin[..., :quarter]) for one in (left, right)], -1)


def matrices(x, cos, sin):
    matrices = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    return (x.unflatten(-1, (-1, 1, 2)) * matrices).sum(-1).flatten(-2)


class Attention(torch.nn.Module):
    """Projects to q and k and rotates as many of the two as `rotated` says."""

    def __init__(self, rotate, rotated: int = 2, *, made_early: bool = False):
        super().__init__()
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.rotate, self.rotated = rotate, rotated
        self.made_early = made_early
        if made_early:
            cos, sin = self.table()
            self.cos, self.sin = torch.nn.Buffer(cos), torch.nn.Buffer(sin)

    def table(self):
        angles = torch.outer(torch.arange(LENGTH).float(), 0.1 ** torch.arange(WIDTH // 2).float())
        return angles.cos() * 1.5, angles.sin() * 1.5

    def forward(self, x):
        cos, sin = (self.cos, self.sin) if self.made_early else self.table()
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = (self.rotate(one, cos, sin) if n < self.rotated else one for n, one in enumerate((q, k)))
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


class Sinusoidal(torch.nn.Module):
    """Adds positions, and gates by a cosine and a sine of the activation itself."""

    def forward(self, x):
        positions = torch.arange(LENGTH).float()[:, None]
        return x + positions.cos() + positions.sin() + x * x.cos()


def counted(module: torch.nn.Module) -> int:
    return len(count(lambda: module, lambda _: [{"x": torch.randn(2, LENGTH, WIDTH)}])[2])


@pytest.mark.parametrize("rotate", [half, parts, written, complex_numbers, fused, partial, two_axes, matrices])
@pytest.mark.parametrize("rotated", [0, 1, 2])
def test_every_spelling_counts_once(rotate, rotated: int) -> None:
    assert counted(Attention(rotate, rotated)) == rotated


def test_tables_made_with_the_model_are_seen() -> None:
    given = {"x": torch.randn(2, LENGTH, WIDTH)}
    _, used, paths = count(lambda: Attention(half, made_early=True), lambda _: [given])
    assert len(paths) == 2
    assert used is given


def test_inputs_are_tried_until_one_fits() -> None:
    wrong, right = {"x": torch.randn(2, LENGTH, WIDTH + 1)}, {"x": torch.randn(2, LENGTH, WIDTH)}
    _, used, paths = count(lambda: Attention(half), lambda _: [wrong, right])
    assert used is right
    assert len(paths) == 2
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count(lambda: Attention(half), lambda _: [wrong])


def test_positions_that_are_added_are_no_rotation() -> None:
    assert counted(Sinusoidal()) == 0


# What the source of each family says, at the size that `tiny` gives it.
TRUE = {
    "llama": 4,  # 2 layers, q and k
    "gptj": 4,  # interleaved, tables made when the model is
    "deepseek_v2": 4,  # complex numbers
    "deepseek_v3": 4,  # a slice of q, and a key that all heads share
    "deepseek_v32": 8,  # the indexer rotates its own q and k
    "deepseek_v4": 11,  # attention turns its result back; the compressor's indexer in one layer
    "gpt_neox": 4,
    "cohere2": 2,  # one of two layers has no rotation
    "smollm3": 2,
    "gemma3n_text": 6,  # two layers of four share the keys of others
    "longcat_flash": 8,  # two attentions in a layer
    "modernbert": 4,
    "roformer": 4,  # tables made by numpy
    "qwen3_next": 2,  # one layer is linear attention
    "t5gemma": 8,  # encoder and decoder; nothing in cross attention
    "jamba": 0,
}


@pytest.mark.parametrize(("name", "expected"), TRUE.items())
def test_known_families(name: str, expected: int) -> None:
    family = select([name])[0]
    _, _, paths = count(lambda: tiny_model(family), lambda model: possible_inputs(family, model))
    assert len(paths) == expected, paths


class OneByOne(Attention):
    """Rotates as often as `rotated` says and keeps no result: the next may be written where the last one was."""

    def forward(self, x):
        cos, sin = self.table()
        q, *_ = self.qkv(x).chunk(3, dim=-1)
        return sum(float(self.rotate(q, cos, sin).sum()) for _ in range(self.rotated)) + q


def test_memory_that_is_written_again_is_another_rotation() -> None:
    assert counted(OneByOne(written, 8)) == 8


class Failing(Attention):
    """Keeps two rotated vectors when it fails, and writes a third over them when it does not."""

    def forward(self, x, fails=False):
        cos, sin = self.table()
        rotated = [half(one, cos, sin) for one in self.qkv(x).chunk(3, dim=-1)]
        if fails:
            self.kept = torch.cat(rotated)
            raise ValueError
        self.kept.copy_(rotated[0])
        return rotated[1] + self.kept


def test_a_call_that_failed_leaves_no_trace() -> None:
    x = torch.randn(1, LENGTH, WIDTH)
    _, _, paths = count(lambda: Failing(half), lambda _: [{"x": x, "fails": True}, {"x": x}])
    assert len(paths) == 3
