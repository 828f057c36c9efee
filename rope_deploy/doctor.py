"""What is installed here, what of it works, and what to install.

Every library is made to do a little of what it is needed for, in a process of its own, so that one that crashes or
hangs harms nobody. Each probe is a few lines for `python -c`: this module imports none of what may be broken. Nothing
here raises because something is absent or broken.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Literal

from rope_deploy.childprocess import environment, how_ended, python
from rope_deploy.errors import UsageError
from rope_deploy.trt import FLAVORS, gpus
from rope_deploy.trt.plugin import REQUIRED_TOOLS, find_tool, possible_paths

State = Literal["works", "broken", "missing", "blocked"]
PATIENCE = 120  # seconds for one probe; importing torch on a cold disk takes many


@dataclass(frozen=True)
class Examination:
    """One thing. `state`: "blocked" is installed but lacks something else, e.g. a GPU. `todo` mends it, if it must be.

    `required`: rope-deploy cannot do its main work without it.
    """

    name: str
    purpose: str
    state: State
    required: bool
    version: str = ""
    detail: str = ""
    todo: str = ""


@dataclass(frozen=True)
class Probe:
    """A Python package and a few lines that make it work; they print one line, the detail to report."""

    name: str
    module: str
    purpose: str
    install: str
    code: str
    required: bool = True
    needs_gpu: bool = False


ROTATE = """
import numpy, onnxruntime
from onnx import TensorProto, helper
def run(op, domain, version, order):
    tensor = lambda name, shape, kind=TensorProto.FLOAT: helper.make_tensor_value_info(name, kind, shape)
    kinds = {"x": tensor("x", [1, 1, 2, 4]), "c": tensor("c", [8, 2]), "s": tensor("s", [8, 2]),
             "p": tensor("p", [1, 2], TensorProto.INT64)}
    node = helper.make_node(op, order, ["y"], domain=domain)
    graph = helper.make_graph([node], "probe", list(kinds.values()), [tensor("y", [1, 1, 2, 4])])
    opsets = [helper.make_opsetid("", 23)] + ([helper.make_opsetid(domain, version)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    angle = numpy.arange(8, dtype="f4")[:, None] * numpy.array([1, 0.01], "f4")
    feeds = {"x": numpy.ones((1, 1, 2, 4), "f4"), "c": numpy.cos(angle), "s": numpy.sin(angle), "p": [[3, 5]]}
    feeds["p"] = numpy.array(feeds["p"])
    y = session.run(None, feeds)[0][0, 0]
    c, s = numpy.cos(angle[[3, 5]]), numpy.sin(angle[[3, 5]])
    assert numpy.abs(y - numpy.concatenate([c - s, c + s], -1)).max() < 1e-5, "it rotates wrongly"
run("RotaryEmbedding", "", 23, ["x", "c", "s", "p"])
run("RotaryEmbedding", "com.microsoft", 1, ["x", "p", "c", "s"])
names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
print("both RotaryEmbedding operators run; providers: " + ", ".join(names))
"""

BUILDER = """
import {module} as trt
builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
assert builder.create_network(0) is not None and builder.create_builder_config() is not None
print("a builder can be created")
"""

PROBES = (
    Probe(
        "torch",
        "torch",
        "runs the model: the reference",
        "pip install torch",
        "import torch\nassert float(torch.ones(2).sum()) == 2\n"
        "print(f'{torch.get_num_threads()} threads; CUDA ' + ('available' if torch.cuda.is_available() else 'absent'))",
    ),
    Probe(
        "transformers",
        "transformers",
        "loads models",
        "pip install transformers",
        "from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS\n"
        "print('rope types: ' + ', '.join(sorted(ROPE_INIT_FUNCTIONS)))",
    ),
    Probe(
        "onnx",
        "onnx",
        "the graph format",
        "pip install onnx",
        "import onnx\nprint(f'opsets up to {onnx.defs.onnx_opset_version()}')",
    ),
    Probe(
        "onnxscript",
        "onnxscript",
        "traces models to ONNX",
        "pip install onnxscript onnx-ir",
        "import onnx_ir, onnxscript\nprint(f'with onnx-ir {onnx_ir.__version__}')",
    ),
    Probe("onnxruntime", "onnxruntime", "runs exported graphs", "pip install onnxruntime", ROTATE),
    Probe(
        "polygraphy",
        "polygraphy",
        "builds and runs TensorRT engines",
        "pip install polygraphy",
        "from polygraphy.backend.trt import CreateConfig, TrtRunner\nprint('its TensorRT backend can be imported')",
        required=False,
    ),
    Probe(
        "tensorrt-rtx",
        "tensorrt_rtx",
        "builds engines for RTX GPUs, also without a GPU",
        FLAVORS["rtx"].install,
        BUILDER.format(module="tensorrt_rtx"),
        required=False,
    ),
    Probe(
        "tensorrt",
        "tensorrt",
        "builds and runs engines on the GPU that is here, with plugins",
        FLAVORS["tensorrt"].install,
        BUILDER.format(module="tensorrt"),
        required=False,
        needs_gpu=True,
    ),
    Probe(
        "tensorrt-lean",
        "tensorrt_lean",
        "loads the plugin library in tests, without a GPU",
        "pip install tensorrt-lean",
        "import tensorrt_lean as trt\nassert trt.get_plugin_registry() is not None\nprint('its plugin registry opens')",
        required=False,
    ),
)


def examine_all(progress: Callable[[Examination], None] = lambda examination: None) -> tuple[Examination, ...]:
    """Everything rope-deploy needs or can use, in a fixed order; takes some seconds, never raises for what it finds."""
    found = [_python(), _gpu(), *_plugin_tools()]
    for examination in found:
        progress(examination)
    with ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) // 2)) as pool:
        for examination in pool.map(examine, PROBES):
            found.append(examination)
            progress(examination)
    return tuple(found)


def healthy(examinations: tuple[Examination, ...]) -> bool:
    """Whether all that is required works, and nothing installed is broken."""
    return not any(d.state == "broken" or (d.required and d.state != "works") for d in examinations)


def examine(probe: Probe, patience: float = PATIENCE) -> Examination:
    """What `probe` finds."""
    about = Examination(probe.name, probe.purpose, "missing", probe.required, todo=f"Run `{probe.install}`.")
    if importlib.util.find_spec(probe.module) is None:
        return about
    about = replace(about, version=_version(probe.module))
    if probe.needs_gpu and not gpus():
        todo = "Use it on a machine with an NVIDIA GPU and its driver."
        return replace(about, state="blocked", detail="no NVIDIA GPU is visible here", todo=todo)
    try:
        ran = subprocess.run(
            python("-c", probe.code),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            stdin=subprocess.DEVNULL,
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        return replace(about, state="broken", detail=f"did not answer within {patience:g} s")
    printed = ran.stdout.strip().splitlines()
    if ran.returncode == 0 and printed:
        return replace(about, state="works", detail=printed[-1], todo="")
    errors = ran.stderr.strip().splitlines()
    how = f"ended {how_ended(ran.returncode)}" if ran.returncode < 0 else "failed"
    todo = f"Install it again: `{probe.install.replace('pip install', 'pip install --force-reinstall')}`."
    return replace(about, state="broken", detail=": ".join([how, *errors[-1:]]), todo=todo)


def _version(module: str) -> str:
    for distribution in packages_distributions().get(module, ()):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


def _python() -> Examination:
    detail = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return Examination("python", "runs all of this", "works", True, platform.python_version(), detail)


def _gpu() -> Examination:
    about = Examination("gpu", "runs TensorRT engines", "missing", False)
    found = gpus()
    if found:
        cards = ", ".join(f"{gpu.name} (capability {gpu.capability})" for gpu in found)
        return replace(about, state="works", version=_driver(), detail=cards)
    return replace(
        about,
        detail="the CUDA driver shows no device",
        todo="Exports, checks and builds with `--flavor rtx` do without. To run engines, use a machine with an NVIDIA "
        "GPU and its driver.",
    )


def _driver() -> str:
    """The version of the NVIDIA driver, "" if it is unknown."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return ""
    printed = _output([tool, "--query-gpu=driver_version", "--format=csv,noheader"])
    return printed.splitlines()[0].strip() if printed else ""


def _plugin_tools() -> Iterator[Examination]:
    for tool in REQUIRED_TOOLS:
        about = Examination(tool.name, f"compiles the TensorRT plugin: {tool.what}", "missing", False)
        try:
            found = find_tool(tool)
        except UsageError as error:  # TENSORRT_ROOT names a folder without headers
            yield replace(about, state="broken", detail=error.asked, todo=error.todo)
            continue
        if found is not None:
            yield replace(about, state="works", version=found.version, detail=found.path)
            continue
        about = replace(about, todo=f"Run `{tool.install}`.")
        broken = next(possible_paths(tool), None)
        yield replace(about, state="broken", detail=f"{broken} does not say its version") if broken else about


def _output(command: list[str]) -> str:
    """Standard output of a vendor's tool, "" if it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
