"""Files of other exporters: right ones pass against their config.json, and a fault planted into one is named."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from rope_deploy import api
from tests import tiny
from tests.audit.conftest import codes


class WithPositions(torch.nn.Module):
    """A decoder as people export it: explicit positions, no cache."""

    def __init__(self, family: str):
        super().__init__()
        self.model = tiny.build(family)
        self.model.config._attn_implementation = "eager"

    def forward(self, input_ids, position_ids):
        return self.model(input_ids=input_ids, position_ids=position_ids, use_cache=False).logits


def torch_onnx(family: str, opset: int, folder: Path) -> Path:
    model = WithPositions(family).eval()
    ids = torch.ones(2, 5, dtype=torch.long)
    batch, sequence = torch.export.Dim("b"), torch.export.Dim("s")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns about packages of its own registry
        program = torch.onnx.export(
            model,
            (ids, ids.cumsum(1)),
            dynamo=True,
            opset_version=opset,
            verbose=False,
            dynamic_shapes=({0: batch, 1: sequence},) * 2,
        )
    program.save(folder / "model.onnx")
    model.model.config.save_pretrained(folder)
    return folder / "model.onnx"


def with_initializer(path: Path, target: Path, suffix: str, change) -> Path:
    """A copy whose constant with that ending is changed."""
    target.mkdir()
    model = onnx.load(path)
    (tensor,) = [t for t in model.graph.initializer if t.name.endswith(suffix)]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))
    onnx.save(model, target / "model.onnx")
    (target / "config.json").write_text((path.parent / "config.json").read_text())
    return target / "model.onnx"


# (family, opset): the chain of transformers, the fused operator with computed caches, a choice by the length.
FILES = (("llama", 18), ("llama", 23), ("phi3", 18), ("gptj", 18))


@pytest.fixture(scope="module", params=[pytest.param(file, marks=pytest.mark.sweep) for file in FILES], ids=str)
def exported(request, tmp_path_factory) -> tuple[str, Path]:
    family, opset = request.param
    return family, torch_onnx(family, opset, tmp_path_factory.mktemp(f"{family}{opset}"))


def test_a_file_of_torch_onnx_passes(exported):
    report = api.audit(exported[1])
    assert report.verdict == "passed" and not report.diagnoses
    (rotations,) = [check for check in report.checks if check.case == "rotations"]
    assert rotations.message.startswith("4 sites")


def test_a_file_of_torch_onnx_with_another_theta_in_its_config_is_named(exported, tmp_path):
    _, path = exported
    stated = json.loads((path.parent / "config.json").read_text())
    stated.get("rope_parameters", stated)["rope_theta"] = 77_000.0
    (tmp_path / "config.json").write_text(json.dumps(stated))
    assert codes(api.audit(path, against=tmp_path)) == {"RD301"}


def test_frequencies_rounded_in_a_file_of_torch_onnx_are_named(exported, tmp_path):
    family, path = exported
    if family != "llama":
        pytest.skip("its frequencies are not one constant")
    rounded = with_initializer(
        path, tmp_path / "rounded", "inv_freq", lambda f: f.astype(np.float16).astype(np.float32)
    )
    assert codes(api.audit(rounded)) == {"RD504"}


def test_an_operator_made_interleaved_is_named(exported, tmp_path):
    _, path = exported
    model = onnx.load(path)
    rotary = [node for node in model.graph.node if node.op_type == "RotaryEmbedding"]
    if not rotary:
        pytest.skip("its rotations are not fused")
    node = next(node for node in rotary if "layers.1" in str(node) or node is rotary[-1])
    for attribute in [a for a in node.attribute if a.name == "interleaved"]:
        node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute("interleaved", 1))
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text((path.parent / "config.json").read_text())
    (found,) = api.audit(tmp_path / "model.onnx").diagnoses
    assert found.code == "RD101" and len(found.layers) == 1


@pytest.mark.slow
def test_files_of_transformers_exporters_pass_and_a_fault_is_named(tmp_path):
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    model = tiny.build("qwen2")
    ids = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = OnnxExporter().export_for_generation(
            model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, OnnxConfig(dynamic=True)
        )
        found.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    report = api.audit(tmp_path)
    assert report.verdict == "passed" and len({check.style for check in report.checks}) >= 2
    stated = tiny.plain_config(model)
    stated["rope_parameters"] = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    assert codes(api.audit(tmp_path)) == {"RD302"}


@pytest.mark.slow
def test_a_file_of_onnxruntime_genai_passes_and_a_fault_is_named(tmp_path):
    """GroupQueryAttention that rotates; the tables are its inputs 7 and 8, there is no position_ids."""
    pytest.importorskip("onnxruntime_genai")
    source = tiny.save_family("smollm2", tmp_path / "model")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(source), "-i", str(source)]
    command += ["-o", str(tmp_path / "genai"), "-p", "fp32", "-e", "cpu", "-c", str(tmp_path / "cache")]
    done = subprocess.run([*command, "--extra_options", "hf_token=false"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1500:]
    path = tmp_path / "genai" / "model.onnx"
    report = api.audit(path, against=source)
    assert report.verdict == "passed", report.diagnoses
    assert any("GroupQueryAttention" in note for note in report.notes)
    (path.parent / "config.json").write_text((source / "config.json").read_text())
    wrong = with_initializer(path, tmp_path / "wrong", "sin_cache", lambda sine: -sine)
    assert codes(api.audit(wrong)) == {"RD102"}
