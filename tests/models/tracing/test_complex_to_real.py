"""Complex numbers are spelled with real ones before ONNX sees them."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from rope_deploy.models.tracing.complex_to_real import replace_complex_values
from rope_deploy.models.tracing.translate import translate


class Rotation(torch.nn.Module):
    """Pairs times exp(i·angle), in the spelling of Llama 4."""

    def forward(self, x, angle):
        turning = torch.polar(torch.ones_like(angle), angle) * 1.0
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turning[:, :, None, :]).flatten(3).type_as(x)


class Scaled(torch.nn.Module):
    def forward(self, x, angle):
        turning = torch.polar(torch.ones_like(angle), angle)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turning.unsqueeze(-2) * angle.unsqueeze(2)).flatten(3)


def exported(module, x, angle):
    return torch.export.export(module, (x, angle), strict=False)


def run(model: ir.Model, x, angle) -> np.ndarray:
    proto = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, (x.numpy(), angle.numpy()))))[0]


def test_a_complex_rotation_runs_as_real_arithmetic():
    x, angle = torch.randn(2, 5, 3, 8), torch.randn(2, 5, 4)
    for module in (Rotation(), Scaled()):
        want = module(x, angle)
        got = run(translate(exported(module, x, angle)), x, angle)
        np.testing.assert_allclose(got, want.numpy(), atol=1e-6)
        assert np.abs(got - module(x, -angle).numpy()).max() > 0.1, "the comparison sees the direction"


def test_nothing_complex_is_left_in_the_program():
    program = exported(Rotation(), torch.randn(2, 5, 3, 8), torch.randn(2, 5, 4))
    replace_complex_values(program)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)


ROWS, PAIRS = 16, 4
TABLE = torch.polar(torch.ones(ROWS, PAIRS), torch.arange(ROWS)[:, None] / torch.arange(1, PAIRS + 1))


def _paired(x):
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


def _neighbours(x, turning):
    return torch.view_as_real(_paired(x) * turning).flatten(-2)


def _halves(x, turning):
    a, b = x.chunk(2, -1)
    y = torch.complex(a, b) * turning
    return torch.cat((y.real, y.imag), -1)


def _parts(x, turning):
    y = torch.cat([part * turning.chunk(2, -1)[n] for n, part in enumerate(_paired(x).split(PAIRS // 2, -1))], -1)
    return torch.view_as_real(y).flatten(-2)


def _angles(p):
    return p[..., None].float() / torch.arange(1, PAIRS + 1)


# How cos + i sin of positions [B, S] is made, to meet x [B, N, S, H]; and how x is turned by it.
SPELLINGS = {
    "rows by position_ids": (lambda t, p: t[p][:, None], _neighbours),
    "rows picked flat": (lambda t, p: t.index_select(0, p.reshape(-1)).view(*p.shape, -1).unsqueeze(1), _neighbours),
    "repeated over heads": (lambda t, p: t[p][:, None].repeat(1, 3, 1, 1), _neighbours),
    "expanded over heads": (lambda t, p: t[p][:, None].expand(-1, 3, -1, -1), _neighbours),
    "repeated before it is read": (lambda t, p: t.repeat(2, 1)[p].unsqueeze(-3), _neighbours),
    "transposed": (lambda t, p: t[p].unsqueeze(2).transpose(1, 2), _neighbours),
    "permuted": (lambda t, p: t.transpose(0, 1).permute(1, 0)[p].unsqueeze(1), _neighbours),
    "of cos and sin": (lambda t, p: torch.complex(_angles(p).cos(), _angles(p).sin())[:, None], _neighbours),
    "an exponential": (lambda t, p: torch.exp(1j * _angles(p))[:, None], _neighbours),
    "a conjugate of the other way": (lambda t, p: torch.polar(torch.ones_like(_angles(p)), -_angles(p)).conj()[:, None],
                                     _neighbours),
    "divided by its length": (lambda t, p: (2 * t[p] / (2 * t[p]).abs())[:, None], _neighbours),
    "a sum": (lambda t, p: (t[p] + t[p] - t[p])[:, None], _neighbours),
    "halves": (lambda t, p: t[p][:, None], _halves),
    "in parts": (lambda t, p: t[p][:, None], _parts),
}  # fmt: skip


class Spelled(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.made, self.turned = SPELLINGS[name]
        self.register_buffer("table", TABLE)

    def forward(self, x, positions):
        return self.turned(x, self.made(self.table, positions))


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_with_complex_numbers_runs_as_real_arithmetic(name):
    x, positions = torch.randn(2, 3, 5, 2 * PAIRS), torch.tensor([[0, 1, 2, 3, 4], [9, 3, 15, 0, 7]])
    module = Spelled(name)
    got = run(translate(exported(module, x, positions)), x, positions)
    np.testing.assert_allclose(got, module(x, positions).numpy(), atol=1e-6)
    assert np.abs(got - module(x, positions.flip(1)).numpy()).max() > 0.1, "the comparison sees the positions"
