"""What a tower is fed: made from its configuration, or given in a file."""

import numpy as np
import pytest
import torch

from rope_deploy.errors import ModelError, UsageError
from rope_deploy.models.example_inputs import example_of, guess_example, handed_on, read_example, reads_text, takes
from tests import tiny, towers
from tests.models import plain


@pytest.mark.parametrize(
    ("name", "tensors", "fixed"),
    [
        ("qwen2_5_vl", {"hidden_states": (24, 384)}, {"grid_thw": [[1, 4, 6]]}),
        ("dinov3", {"pixel_values": (2, 3, 32, 32)}, {}),
        ("lasr", {"input_features": (2, 64, 32)}, {}),
    ],
)
def test_an_example_follows_from_the_configuration(name, tensors, fixed):
    example = guess_example(towers.build(name))
    assert {key: tuple(value.shape) for key, value in example.tensors.items()} == tensors
    assert {key: value.tolist() for key, value in example.fixed.items()} == fixed


def test_numbers_are_fixed_while_tokens_are_inputs():
    example = example_of({"input_features": torch.ones(1, 2), "decoder_input_ids": [[1]], "grid_thw": [[1, 2, 2]]})
    assert list(example.tensors) == ["input_features", "decoder_input_ids"]
    assert list(example.fixed) == ["grid_thw"]


def test_only_towers_read_no_text():
    assert reads_text(tiny.build("llama"))
    assert not reads_text(towers.build("dinov3"))
    assert takes(plain.pixels()) == ("pixel_values",)


def test_a_file_holds_the_arguments_by_name(tmp_path):
    path = tmp_path / "image.npz"
    np.savez(path, hidden_states=np.zeros((16, 384), np.float32), grid_thw=np.array([[1, 4, 4]]))
    example = read_example(path, towers.build("qwen2_5_vl"))
    assert example.fixed["grid_thw"].tolist() == [[1, 4, 4]]
    assert tuple(example.tensors["hidden_states"].shape) == (16, 384)


@pytest.mark.parametrize("grid", [[[1, 20_000, 20_000]], [[1, -4, 4]], [[2**40, 2**40, 2**40]]])
def test_a_grid_of_other_images_is_refused_before_anything_is_run(tmp_path, grid):
    path = tmp_path / "image.npz"
    np.savez(path, hidden_states=np.zeros((16, 384), np.float32), grid_thw=np.array(grid))
    with pytest.raises(UsageError, match="grid_thw asks for"):
        read_example(path, towers.build("qwen2_5_vl"))


def test_a_file_with_other_arguments_is_refused_with_their_names(tmp_path):
    path = tmp_path / "image.npz"
    np.savez(path, pixels=np.zeros(3))
    with pytest.raises(UsageError, match="holds pixels") as caught:
        read_example(path, towers.build("qwen2_5_vl"))
    assert "hidden_states, grid_thw" in caught.value.exists


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "image.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is not an \.npz file"):
        read_example(path, towers.build("dinov3"))


def test_arguments_nobody_knows_need_an_example():
    model = plain.pixels()
    model.config = {"model_type": "plain"}
    model.forward = lambda waves: waves
    with pytest.raises(ModelError, match="No argument has a name that is known") as caught:
        guess_example(model)
    assert "--example" in caught.value.todo


def test_positions_reach_a_model_inside_one_that_hands_on_what_it_does_not_name():
    class Outer(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.base_model = inner

        def forward(self, input_ids, **kwargs):
            return self.base_model(input_ids, **kwargs)

    class Deaf(Outer):
        def forward(self, input_ids):
            return self.base_model(input_ids)

    inner = tiny.build("llama").model
    assert "position_ids" in handed_on(Outer(inner))
    assert handed_on(Deaf(inner)) == ()
    assert handed_on(torch.nn.Linear(2, 2)) == ()
