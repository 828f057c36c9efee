"""A model whose own code turns by a key that no rule states: its graph says how, and is exported."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rope_deploy import api
from rope_deploy.export.prepare_model import prepare

CONFIGURATION = """
from transformers import PreTrainedConfig
class ToyConfig(PreTrainedConfig):
    model_type = "toy_ratio"
    def __init__(self, vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                 max_position_embeddings=96, rope_ratio=50, **other):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads = self.num_key_value_heads = num_attention_heads
        self.max_position_embeddings, self.rope_ratio = max_position_embeddings, rope_ratio
        super().__init__(**other)
"""
MODELING = """
import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from .configuration_toy import ToyConfig

def turned(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin

class Toy(PreTrainedModel, GenerationMixin):
    config_class = ToyConfig
    def __init__(self, config):
        super().__init__(config)
        size = config.hidden_size
        self.embed = nn.Embedding(config.vocab_size, size)
        self.q, self.k, self.v = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.lm_head = nn.Linear(size, config.vocab_size, bias=False)
        self.post_init()
    def get_input_embeddings(self):
        return self.embed
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, **other):
        batch, count = input_ids.shape
        heads, before = self.config.num_attention_heads, past_key_values.get_seq_length() if past_key_values else 0
        if position_ids is None:
            position_ids = torch.arange(before, before + count)[None]
        width = self.config.hidden_size // heads
        base = 10000.0 * self.config.rope_ratio
        angles = position_ids[..., None].float() / base ** (torch.arange(0, width, 2).float() / width)
        cos, sin = (torch.cat((f, f), -1)[:, None] for f in (angles.cos(), angles.sin()))
        x = self.embed(input_ids)
        q, k, v = (part(x).view(batch, count, heads, width).transpose(1, 2) for part in (self.q, self.k, self.v))
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, 0)
        seen = torch.arange(before + count)[None, :] <= torch.arange(before, before + count)[:, None]
        scores = (q @ k.transpose(2, 3)).masked_fill(~seen[None, None], -1e9)
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask[:, None, None, :] == 0, -1e9)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, count, -1)
        return CausalLMOutputWithPast(logits=self.lm_head(x + y), past_key_values=past_key_values)
"""


@pytest.mark.parametrize("stray", [{}, {"rope_theta": 10_000.0}], ids=["no-rope-key", "a-stray-base"])
@pytest.mark.usefixtures("code_cache")
def test_a_rule_of_its_own_is_exported_as_the_graph_has_it(stray, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "configuration_toy.py").write_text(CONFIGURATION)
    (folder / "modeling_toy.py").write_text(MODELING)
    auto_map = {"AutoConfig": "configuration_toy.ToyConfig", "AutoModelForCausalLM": "modeling_toy.Toy"}
    stated = {"model_type": "toy_ratio", "architectures": ["Toy"], "auto_map": auto_map, "rope_ratio": 50, **stray}
    (folder / "config.json").write_text(json.dumps(stated))
    torch.manual_seed(0)
    square = {f"{name}.weight": torch.randn(32, 32) / 6 for name in "qkv"}
    wide = {f"{name}.weight": torch.randn(64, 32) / 6 for name in ("embed", "lm_head")}
    save_file({**square, **wide}, folder / "model.safetensors", metadata={"format": "pt"})

    loaded = api.load(str(folder), trust_remote_code=True)
    assert loaded.specs == {}
    prepared = prepare(loaded)
    assert prepared.max_position == 96
    (rotation,) = prepared.raised.rotations
    angles = np.arange(96)[:, None] / 500_000.0 ** (np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(rotation.table.cos, np.cos(angles), atol=1e-5)
    assert [finding.code for finding in prepared.findings] == ["no-tokenizer", "no-config"]
