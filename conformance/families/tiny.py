"""A family's model, tiny and random, with weights that make its logits tell right from wrong.

With transformers' own initialisation (0.02) every logit is nearly zero and a wrong rotation passes any tolerance.
Here a signal passes through every layer, and the logits have a spread of about one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conformance.families.census import Family
from conformance.families.exceptions import settings_of
from conformance.families.shrink import tiny_settings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def tiny_config(family: Family, settings: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """The family's configuration, tiny; what the rules cannot know comes from `settings`, by default `exceptions`."""
    config_class = family.config_class()
    return config_class(**tiny_settings(config_class, settings_of(family.name) if settings is None else settings))


def tiny_model(family: Family, *, seed: int = 0, config: PreTrainedConfig | None = None) -> PreTrainedModel:
    """The family's model in evaluation mode, the same weights every time; of `config` if it is not the usual one."""
    import torch

    torch.manual_seed(seed)
    model = family.model_class()(config or tiny_config(family)).eval()
    draw_weights(model)
    return model.requires_grad_(False)


def draw_weights(model: PreTrainedModel) -> None:
    """Draw weights that carry a signal: matrices keep the size of what they multiply, vectors move by a tenth."""
    import torch

    from rope_deploy.models.torch_private import ConvNd

    convolutions = [module for module in model.modules() if isinstance(module, ConvNd)]
    # A transposed one sums over all channels, and over few of the positions in its kernel.
    inputs = {id(one.weight): len(one.weight) if one.transposed else one.weight[0].numel() for one in convolutions}
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point() or not parameter.requires_grad:  # a table of sines
                continue
            if parameter.ndim >= 2:
                parameter.normal_(0, 1.2 / inputs.get(id(parameter), parameter.shape[-1]) ** 0.5)
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.tie_weights()
