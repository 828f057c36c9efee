"""The sound inputs that are mutated: tiny models, artifacts, graphs by other exporters, and what goes with them.

Made by code, once for each state of what makes them, and kept between campaigns.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

import rope_deploy
from rope_deploy import styles
from rope_deploy.artifact import FileInfo, TensorInfo, hash_file
from tests import tiny, towers
from tests.audit import files
from tests.models.gguf_file import write_gguf

STYLES = tuple(styles.STYLES)
FUSING = tuple(style.name for style in styles.STYLES.values() if style.fuses_attention)


def made_seeds(folder: Path) -> Path:
    """The folder of the seeds inside `folder`: made now, unless they are there for this state of the code."""
    target = folder / f"seeds-{_state()}"
    if target.is_dir():
        return target
    temporary = folder / f"seeds-making-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _make(temporary)
    try:
        temporary.rename(target)
    except OSError:  # another campaign was first
        shutil.rmtree(temporary)
    return target


def _state() -> str:
    """Changes with the package's own code and this file."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(Path(rope_deploy.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _make(folder: Path) -> None:
    from rope_deploy import api

    tiny.save_family("llama", folder / "model", num_hidden_layers=1)
    write_gguf(tiny.build("smollm2", num_hidden_layers=1), folder / "gguf.gguf")
    towers.save("dinov3", folder / "tower")
    np.savez(folder / "tower.npz", pixel_values=np.zeros((1, 3, 32, 32), np.float32))
    previous = Path.cwd()
    os.chdir(folder)  # the manifests name the model as it lies beside a case's own copy
    try:
        loaded = api.load("model")
        api.export(loaded, "artifacts", styles=STYLES)
        for style in FUSING:
            api.export(loaded, f"unfused/{style}", styles=[style], fused_attention=False)
    finally:
        os.chdir(previous)
    for style in STYLES:  # what is fused is not rewritten
        source = folder / ("unfused" if style in FUSING else "artifacts") / style
        shutil.copytree(source, folder / "graphs" / style, ignore=_all_but_the_graph)
    stated = files.config()
    inverse = files.spec_of(stated).inv_freq()
    for form in files.FORMS:
        files.write(folder / f"{form}.onnx", files.Decoder(form=form, tables=files.stored(stated)))
    files.write(folder / "computed.onnx", files.Decoder(inv_freq=inverse))
    files.write(folder / "counted.onnx", files.Decoder(inv_freq=inverse, positions="counted", cached=True))
    (folder / "stated.json").write_text(json.dumps(stated))
    _write_engine(folder)
    report = api.bench(folder / "artifacts", runtimes=["torch", "ort"], model=loaded, prompt=4, new=1, rounds=3)
    api.write_report(report, folder / "baseline.json")
    (folder / "run.toml").write_text(RUN)


def _all_but_the_graph(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("model.onnx")]


def _write_engine(folder: Path) -> None:
    """A manifest of an engine; the engine itself is of no interest to what can be done with it here."""
    from rope_deploy.trt.engine_manifest import EngineManifest, manifest_path
    from rope_deploy.trt.profiles import Profile

    engine = folder / "toy.engine"
    engine.write_bytes(b"ftrt" + bytes(64))
    manifest = EngineManifest(
        source="input/a",
        files={"model.onnx": FileInfo(1, "0" * 64)},
        style="tables",
        dtype="float32",
        flavor="rtx",
        capabilities=("8.9",),
        profiles=(Profile("all", {}),),
        inputs=(TensorInfo("input_ids", "int64", ("batch", "sequence")),),
        engine=hash_file(engine),
        seconds=1.0,
    )
    manifest_path(engine).write_text(manifest.to_json())


RUN = """\
title = "A tiny model"

[model]
source = "input/m"
dtype = "float32"

[export]
styles = ["tables"]
opset = 18
max_position = 64
angles = "model"

[output]
folder = "out"
formats = ["json"]
"""
