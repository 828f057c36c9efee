"""Towers as graphs."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch

from rope_deploy.models import trace, wrap
from rope_deploy.models.example_inputs import Example
from tests import towers


def test_inputs_have_the_names_of_the_forward_and_numbers_are_gone():
    graph = trace(towers.loaded("qwen2_5_vl")).model.graph
    assert [value.name for value in graph.inputs] == ["hidden_states"]
    assert [value.name for value in graph.outputs] == ["last_hidden_state", "pooler_output"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "first"), [("dinov3", "batch"), ("lasr", "batch"), ("qwen2_5_vl", 24)])
def test_the_batch_is_open_where_nothing_is_fixed(name, first):
    shape = trace(towers.loaded(name)).model.graph.inputs[0].shape
    assert (shape[0] if isinstance(shape[0], int) else str(shape[0])) == first


def test_a_complex_buffer_becomes_its_parts_and_the_model_keeps_its_own():
    loaded = towers.loaded("llama4")
    graph = trace(loaded).model.graph
    complex_types = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
    assert all(value.dtype not in complex_types for value in graph.initializers.values())
    assert loaded.model.rotary_embedding.freqs_ci.is_complex()


class LooksAtTheBatch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, pixel_values):
        return self.linear(pixel_values) * (2.0 if pixel_values.shape[0] == 3 else 1.0)


def test_a_batch_that_had_to_be_fixed_is_a_finding():
    example = Example({"pixel_values": torch.ones(3, 4)})
    found = trace(wrap(LooksAtTheBatch(), {}, source="fixed"), example=example)
    assert found.model.graph.inputs[0].shape[0] == 3
    (finding,) = found.findings
    assert finding.code == "fixed-batch" and "The batch is fixed at 3" in finding.message
    assert trace(towers.loaded("dinov3")).findings == ()
