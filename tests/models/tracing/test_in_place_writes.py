"""Writes become values where that is certain, and are left alone where another name is read later."""

import onnx_ir as ir
import onnxruntime
import pytest
import torch

from rope_deploy.models.tracing.in_place_writes import replace_writes, writes
from rope_deploy.models.tracing.translate import translate


class Changed(torch.nn.Module):
    """Mixtures of experts: a mask of groups, weights that sum to one."""

    def forward(self, x):
        mask = torch.zeros_like(x).scatter_(1, x.argmax(dim=1, keepdim=True), 1.0)
        weights = x.abs() + mask
        weights /= weights.sum(dim=1, keepdim=True)
        return weights * 2


class Filled(torch.nn.Module):
    """Latent attention: a key of two parts."""

    def forward(self, x):
        whole = x.new_empty(*x.shape[:-1], 6)
        whole[..., :4].copy_(x)
        whole[..., 4:].copy_(x[..., :2] * 2)
        return whole + 1


class ReadByAnotherName(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        part = y[:, :2]
        y.add_(1.0)
        return part + y[:, 2:]


class ThroughAnotherName(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        y[:, :2].mul_(3.0)
        return y


class HalfFilled(torch.nn.Module):
    def forward(self, x):
        whole = torch.empty_like(x)
        whole[:, 1:].copy_(x[:, 1:])
        whole[:, 0].fill_(7.0)
        return whole + 1


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def program(module: torch.nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(module, (X,), dynamic_shapes=({0: torch.export.Dim("rows")},), strict=False)


def left(module: torch.nn.Module) -> int:
    made = program(module)
    replace_writes(made)
    return sum(writes(node) for node in made.graph.nodes)


@pytest.mark.parametrize("module", [Changed(), Filled()])
def test_they_become_values(module):
    assert left(module) == 0


@pytest.mark.parametrize("module", [ReadByAnotherName(), ThroughAnotherName(), HalfFilled()])
def test_what_is_not_certain_stays(module):
    assert left(module) > 0


@pytest.mark.parametrize("module", [Changed(), Filled(), ReadByAnotherName(), ThroughAnotherName(), HalfFilled()])
def test_the_graph_says_the_same(module):
    session = onnxruntime.InferenceSession(ir.to_proto(translate(program(module))).SerializeToString())
    for x in (X, torch.randn(5, 4)):
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), module(x.clone()))


def test_the_certainty_matters():
    """Renewed all the same, the other name would keep what was there before."""
    made = program(ReadByAnotherName())
    (write,) = (node for node in made.graph.nodes if writes(node))
    write.target = torch.ops.aten.add.Tensor
    got = made.module()(X)
    assert not torch.allclose(got, ReadByAnotherName()(X))
