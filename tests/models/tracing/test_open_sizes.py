"""What a trace left unproved is tried: what always holds is no limit, a length that matters may be one."""

from __future__ import annotations

import pytest
import torch

from rope_deploy.errors import ModelError
from rope_deploy.models.torch_private import UserError
from rope_deploy.models.tracing.open_sizes import export

BATCH, SEQUENCE, PAST = 2, 3, 5


class TwoBranches(torch.nn.Module):
    """Adds what came before; from `window` tokens on, it does so otherwise."""

    def __init__(self, window: int | None = None, least: int = 16):
        super().__init__()
        self.window, self.least = window, least

    def forward(self, tensors, past):
        x = torch.cat([*past, tensors[0]], dim=1)
        if self.window is not None and x.shape[1] > self.window:
            x = x - 1
        picked = x.topk(min(self.least, x.shape[1]), dim=1).values
        return x + picked.sum(1, keepdim=True)


class Loop(torch.nn.Module):
    def forward(self, tensors, past):
        total = tensors[0][:, 0]
        for step in range(tensors[0].shape[1]):
            total = total + tensors[0][:, step]
        return total


def traced(module: torch.nn.Module, reach: int | None, *, past: bool):
    batch, sequence, before = (torch.export.Dim(name) for name in ("batch", "sequence", "past"))
    args = ([torch.randn(BATCH, SEQUENCE, 4)], [torch.randn(BATCH, PAST, 4)] if past else [])
    return export(module, args, ([{0: batch, 1: sequence}], [{0: batch, 1: before}] if past else []), reach)


@pytest.mark.parametrize("past", [False, True])
def test_what_always_holds_is_no_limit(past):
    assert traced(TwoBranches(), 256, past=past).tokens is None


@pytest.mark.parametrize(("past", "tokens"), [(False, 256), (True, 254)])
def test_a_window_as_long_as_the_model_reaches_is_the_limit(past, tokens):
    sized = traced(TwoBranches(window=256), 256, past=past)
    assert sized.tokens == tokens
    inside = torch.randn(1, 20, 4)
    got = sized.program.module()([inside], [torch.zeros(1, 2, 4)] if past else [])
    want = TwoBranches(window=256)([inside], [torch.zeros(1, 2, 4)] if past else [])
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("window", [9, 100, 200])
def test_a_window_that_the_models_own_calls_leave_is_refused(past, window):
    with pytest.raises((ModelError, UserError), match=r"takes another path|Constraints violated"):
        traced(TwoBranches(window=window), 256, past=past)


def test_a_loop_over_tokens_is_refused():
    with pytest.raises((ModelError, UserError), match=r"takes another path|Constraints violated"):
        traced(Loop(), 256, past=False)


class Blocks(torch.nn.Module):
    """Pads to whole blocks, if there is anything to pad: as many tokens as there were decide."""

    def forward(self, tensors, past):
        x = torch.cat([*past, tensors[0]], dim=1)
        blocks = -(-x.shape[1] // 4)
        if padding := blocks * 4 - x.shape[1]:
            x = torch.nn.functional.pad(x, (0, 0, 0, padding))
        return x.reshape(x.shape[0], blocks, 16).amax(2)


def test_what_the_tracer_assumes_of_several_dimensions_without_a_word_is_refused_too():
    batch, sequence, before = (torch.export.Dim(name) for name in ("batch", "sequence", "past"))
    args = ([torch.randn(BATCH, SEQUENCE, 4)], [torch.randn(BATCH, PAST, 4)])
    axes = ([{0: batch, 1: sequence}], [{0: batch, 1: before}])
    torch.export.export(Blocks(), args, dynamic_shapes=axes, strict=False)  # raises nothing
    with pytest.raises(ModelError, match="takes another path"):
        export(Blocks(), args, axes, 256)
