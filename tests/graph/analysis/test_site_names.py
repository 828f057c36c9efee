"""Every rotation of a model has its own name: an indexer's beside its attention's, one for each time a layer runs."""

from __future__ import annotations

import numpy as np
import pytest
import transformers as hf

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from rope_deploy.models import run_reference, wrap
from rope_deploy.parity import check
from rope_deploy.runtimes import open_ort, open_torch
from tests import tiny
from tests.models.patches.test_attention_and_mask import SPARSE
from tests.sweep import swept

AGAIN = {key: value for key, value in tiny.LLAMA.items() if key != "num_key_value_heads"}
AGAIN |= {"head_dim": 16, "num_hidden_layers": 1, "H_cycles": 1, "L_cycles": 2}
MODELS = {
    "indexed": lambda: tiny.fresh(hf.DeepseekV32ForCausalLM, hf.DeepseekV32Config(**SPARSE)),
    "again": lambda: tiny.fresh(hf.HrmTextForCausalLM, hf.HrmTextConfig(**AGAIN)),
}
SITES = {
    "indexed": {f"{layer}.{role}{suffix}" for layer in (0, 1) for role in "qk" for suffix in ("", ".1")},
    "again": {f"{layer}.{role}" for layer in (0, 1, 2) for role in "qk"},
}


@pytest.fixture(scope="module", params=swept(MODELS, ["indexed"]))
def exported(request, tmp_path_factory):
    model = MODELS[request.param]()
    loaded = wrap(model, tiny.plain_config(model), source=request.param)
    folder = tmp_path_factory.mktemp("sites") / request.param
    api.export(loaded, folder, styles=("plugin",))
    return request.param, loaded, folder


@pytest.mark.slow
def test_sites_of_graph_and_model_are_called_alike(exported):
    name, loaded, folder = exported
    assert {site.key for site in load_manifest(folder).sites} == SITES[name]
    words = np.array([[5, 6, 7, 8, 9, 10]])
    feeds = {"input_ids": words, "attention_mask": np.ones_like(words), "position_ids": words - 5}
    taps = run_reference(loaded, feeds, taps=True)
    for kind in ("rotated", "unrotated"):
        assert {tap.removeprefix(f"{kind}.") for tap in taps if tap.startswith(f"{kind}.")} == SITES[name]


class Tampered:
    """A runtime whose tap of one site is not what it was."""

    def __init__(self, runtime, site: str):
        self._runtime, self._site = runtime, site
        self.name, self.taps = runtime.name, runtime.taps

    def run(self, feeds, taps=False):
        outputs = self._runtime.run(feeds, taps)
        outputs[f"rotated.{self._site}"] = outputs[f"rotated.{self._site}"][:, :, ::-1]
        return outputs


@pytest.mark.slow
def test_each_is_compared_and_a_fault_in_any_is_seen(exported):
    name, loaded, folder = exported
    manifest = load_manifest(folder)
    with open_ort(folder, threads=1, taps=True) as runtime, open_torch(loaded) as reference:
        honest = check(manifest, reference, runtime, only=("strided",))
        assert not honest.failed, [record.message for record in honest.records]
        assert honest.records[-1].message.startswith(f"All {len(SITES[name])} sites were compared")
        for site in sorted(SITES[name]):
            (record, *_) = check(manifest, reference, Tampered(runtime, site), only=("strided",)).records
            assert record.verdict == "failed"
            assert record.worst.tensor in (f"rotated.{site}", f"oracle.{site}")
