"""A tiny decoder whose code comes with it, as remote code of version 4 was written: not made for the meta device."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = """
from transformers import PretrainedConfig
class ToyConfig(PretrainedConfig):
    model_type = "toy_rope"
    def __init__(self, vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                 max_position_embeddings=64, rope_theta=10000.0, **others):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads = self.num_key_value_heads = num_attention_heads
        self.max_position_embeddings, self.rope_theta = max_position_embeddings, rope_theta
        super().__init__(**others)
"""
MODEL = """
import math, torch
from torch import nn
from transformers import PreTrainedModel, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from .configuration_{name} import ToyConfig

def frequencies(dim, base):
    return 1.0 / (base ** (torch.arange(0, dim, 2).float() / dim))

class Rotary(nn.Module):
    made = 0
    def __init__(self, dim, base):
        super().__init__()
{init}
    def forward(self, position_ids):
        angles = position_ids[..., None].float() * {inv_freq}
        angles = torch.cat((angles, angles), -1)
        return angles.cos()[:, None], angles.sin()[:, None]

def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin

class Attention(nn.Module):
    def __init__(self, c, number):
        super().__init__()
        self.number, self.heads, self.dim = number, c.num_attention_heads, c.hidden_size // c.num_attention_heads
        self.q, self.k, self.v, self.o = (nn.Linear(c.hidden_size, c.hidden_size, bias=False) for _ in range(4))
    def forward(self, x, cos, sin, mask, past):
        B, S, H = x.shape
        q, k, v = (m(x).view(B, S, self.heads, self.dim).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if past is not None:
            k, v = past.update(k, v, self.number)
        scores = q @ k.transpose(2, 3) / math.sqrt(self.dim) + mask
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, S, H))

class ToyForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = ToyConfig
{body}
    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.rotary = Rotary(config.hidden_size // config.num_attention_heads, config.rope_theta)
        self.layers = nn.ModuleList(Attention(config, number) for number in range(config.num_hidden_layers))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
    def get_input_embeddings(self):
        return self.embed
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, **_):
        B, S = input_ids.shape
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(past, past + S)[None]
        cos, sin = self.rotary(position_ids)
        x = self.embed(input_ids)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        later = torch.arange(past + S)[None, :] > torch.arange(past, past + S)[:, None]
        mask = torch.zeros(B, 1, S, past + S, dtype=x.dtype).masked_fill(later[None, None], -1e4)
        if attention_mask is not None:
            mask = mask.masked_fill(attention_mask[:, None, None, :] == 0, -1e4)
        for layer in self.layers:
            x = x + layer(x, cos, sin, mask, past_key_values)
        return CausalLMOutputWithPast(logits=self.lm_head(x), past_key_values=past_key_values)
"""
BUFFER = 'self.register_buffer("inv_freq", frequencies(dim, base), persistent=False)'


def write(folder: Path, name: str, init: str = BUFFER, inv_freq: str = "self.inv_freq", body: str = "") -> Path:
    """A model folder. `init` is how its rotary module keeps frequencies, `inv_freq` how it reads them, `body` goes into
    the model's class. `name` tells its modules from those of other folders."""
    folder.mkdir(parents=True)
    (folder / f"configuration_{name}.py").write_text(CONFIG)
    lines = "\n".join(f"        {line}" for line in init.splitlines())
    inside = "\n".join(f"    {line}" for line in body.splitlines())
    (folder / f"modeling_{name}.py").write_text(
        MODEL.replace("{name}", name).replace("{init}", lines).replace("{inv_freq}", inv_freq).replace("{body}", inside)
    )
    model = made(folder, name)
    own = {
        "AutoConfig": f"configuration_{name}.ToyConfig",
        "AutoModelForCausalLM": f"modeling_{name}.ToyForCausalLM",
    }
    settings = {"model_type": "toy_rope", "architectures": ["ToyForCausalLM"]}
    (folder / "config.json").write_text(json.dumps({**settings, **model.config.to_dict(), "auto_map": own}))
    weights = {key: value for key, value in model.named_parameters() if not key.startswith("rotary")}
    save_file({key: value.detach().clone() for key, value in weights.items()}, folder / "model.safetensors")
    return folder


def made(folder: Path, name: str) -> torch.nn.Module:
    """The class made by calling it, without transformers' loading; the same random weights every time."""
    package = f"own_code_{name}"
    for module in (f"configuration_{name}", f"modeling_{name}"):
        spec = importlib.util.spec_from_file_location(f"{package}.{module}", folder / f"{module}.py")
        found = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(package, type(sys)(package)).__path__ = [str(folder)]
        sys.modules[spec.name] = found
        spec.loader.exec_module(found)
    torch.manual_seed(0)
    model = found.ToyForCausalLM(found.ToyConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, parameter.shape[-1] ** -0.5)
    return model.eval()
