"""Complex numbers are spelled with real ones before ONNX sees them."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from rope_deploy.models.complexes import spell_with_reals
from rope_deploy.models.translate import translate


class Turn(torch.nn.Module):
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
    for module in (Turn(), Scaled()):
        want = module(x, angle)
        got = run(translate(exported(module, x, angle)), x, angle)
        np.testing.assert_allclose(got, want.numpy(), atol=1e-6)
        assert np.abs(got - module(x, -angle).numpy()).max() > 0.1, "the comparison sees the direction"


def test_nothing_complex_is_left_in_the_program():
    program = exported(Turn(), torch.randn(2, 5, 3, 8), torch.randn(2, 5, 4))
    spell_with_reals(program)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)
