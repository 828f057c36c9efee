"""What a model tells its attention is done: an indexer's choice masks, and what is not supported is refused."""

from contextlib import nullcontext

import pytest
import torch
import transformers as hf

from rope_deploy.errors import ModelError
from rope_deploy.models import patched
from rope_deploy.models.patches.attention_and_mask import UNSUPPORTED, attend, picked
from tests import tiny

SPARSE = {
    **tiny.LLAMA, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 16, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "moe_intermediate_size": 32, "n_shared_experts": 1,
}  # fmt: skip
TOKENS = 11  # more than an indexer picks


def answers(implementation: str | None) -> torch.Tensor:
    model = tiny.fresh(hf.DeepseekV32ForCausalLM, hf.DeepseekV32Config(**SPARSE))
    if implementation is not None:
        model.set_attn_implementation(implementation)
    ids = torch.randint(3, tiny.VOCAB, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), nullcontext() if implementation else patched(model, "run"):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_only_what_the_indexer_picked_is_read():
    assert (answers(None) - answers("eager")).abs().max() < 2e-5


def test_reading_everything_is_another_answer(monkeypatch):
    monkeypatch.setattr(
        "rope_deploy.models.patches.attention_and_mask.picked", lambda numbers, keys, size=1: torch.tensor(True)
    )
    assert (answers(None) - answers("eager"))[:, SPARSE["index_topk"] :].abs().max() > 0.05


def test_picked_keys_and_blocks_are_those_named():
    one_by_one = picked(torch.tensor([[[[0, 3], [2, -1]]]]), 5)
    assert one_by_one.int().tolist() == [[[[1, 0, 0, 1, 0], [0, 0, 1, 0, 0]]]]
    blocks = picked(torch.tensor([[[[1, -1], [2, 0]]]]), 5, 2)  # the last block is cut short
    assert blocks.int().tolist() == [[[[0, 0, 1, 1, 0], [1, 1, 0, 0, 1]]]]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_it_cannot_do_it_refuses(name):
    heads = torch.zeros(1, 2, 3, 8)
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    attend(None, heads, heads, heads, mask, **{name: None})
    with pytest.raises(ModelError, match=name):
        attend(None, heads, heads, heads, mask, **{name: heads})
