"""What a model's code sets on its modules is undone after the block."""

from __future__ import annotations

import pytest
import torch

from rope_deploy.models.restored_attributes import attributes_restored


class Forgetful(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(1))
        self.length = 0


def test_what_a_module_sets_on_itself_is_undone_even_after_a_failure():
    module = Forgetful()
    table = module.table
    with pytest.raises(RuntimeError), attributes_restored(module):
        module.length, module.extra = 7, torch.ones(1)
        module.register_buffer("table", torch.ones(1))
        module.register_buffer("more", torch.ones(1))
        raise RuntimeError
    assert module.length == 0
    assert module.table is table
    assert not hasattr(module, "extra")
    assert not hasattr(module, "more")
