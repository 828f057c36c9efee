"""The shape of an `export_configs/*.toml` file: one frozen dataclass per table.

The types say what a value may be, the defaults what is meant when it is left out. Rules that involve more
than one value live in `rules.py`; the wording of faults lives in `faults.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, StrictBool, StrictInt, Tag, with_config

from rope_deploy.config.fault_sentences import ONE, SEVERAL

# TOML knows its types, so nothing is converted: "128" is not a number and 1 is not true.
Text = Annotated[str, Field(strict=True, pattern=r"\S")]
PackageName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Count = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
MOST_THREADS = 1024  # each costs memory and a start; no machine has more for one session
Threads = Annotated[StrictInt, Field(ge=1, le=MOST_THREADS)]
Natural = Annotated[StrictInt, Field(ge=0, le=2**63 - 1)]
Error = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
# A number or a list of them. The tags keep pydantic from reporting a fault once for each reading of the value.
Lengths = Annotated[
    Annotated[Count, Tag(ONE)] | Annotated[tuple[Count, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list | tuple) else ONE),
]

MistakeCode = Annotated[str, Field(strict=True, pattern=r"^RD[0-9]{3}$")]

Style = Literal["tables", "onnx", "contrib", "plugin"]
Dtype = Literal["float32", "float16", "bfloat16"]
Limit = Literal["left_padding", "chunked_prefill_batch", "prompt_positions", "padded_past", "tokens", "max_position"]
Format = Literal["json", "junit", "markdown", "html", "sarif"]

STYLES: tuple[Style, ...] = ("tables", "onnx", "contrib", "plugin")
FORMATS: tuple[Format, ...] = ("json", "junit", "markdown", "html", "sarif")

_closed = with_config(ConfigDict(extra="forbid"))


@_closed
@dataclass(frozen=True)
class ModelSection:
    """Which model. Either `source`, or `package` and `file`: a file shipped inside an installed Python package.

    `source` is a local Hugging Face folder, a `.gguf` file, a hub name, or `package.module:factory`. A relative
    path counts from the working directory, as on the command line. `dtype` is that of the exported weights.
    """

    source: Text | None = None
    package: PackageName | None = None
    file: Text | None = None
    dtype: Dtype = "float32"
    trust_remote_code: StrictBool = False


@_closed
@dataclass(frozen=True)
class ExportSection:
    """How the graph is written. `opset` and `max_position` left out mean: as the style needs, as the model says.

    `accept`: codes of mistakes, such as "RD301", with which the export goes on.
    """

    styles: Annotated[tuple[Style, ...], Field(min_length=1)] = STYLES
    opset: Annotated[StrictInt, Field(ge=17, le=99)] | None = None
    max_position: Count | None = None
    angles: Literal["model", "float64"] = "model"
    cache: StrictBool = True
    fused_attention: StrictBool = True
    allow_unmatched: StrictBool = False
    accept: tuple[MistakeCode, ...] = ()


@_closed
@dataclass(frozen=True)
class BuildSection:
    """A TensorRT engine from one of the exported styles; without this table none is built.

    `profiles` overrides the ranges taken from the artifact: axis or input name to (least, usual, most).
    """

    flavor: Literal["rtx", "tensorrt"] = "rtx"
    style: Style = "tables"
    compute_capabilities: tuple[Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,2}\.[0-9]$")], ...] = ()
    profiles: dict[str, tuple[Natural, Natural, Natural]] = field(default_factory=dict)


@_closed
@dataclass(frozen=True)
class CheckSection:
    """Parity with PyTorch, always done. Tolerances left out are those of float32; half types have none, and an
    artifact's own are never asked.

    `set` "quick" runs the few cases that still meet every mistake that has a name. `allow_limits` names what an
    artifact may be unable to do, such as "left_padding" of a fused attention: any other limit fails the run, because
    the cases that go beyond it are not judged.
    """

    runtimes: Annotated[tuple[Literal["ort", "trt"], ...], Field(min_length=1)] = ("ort",)
    set: Literal["quick", "full"] = "full"
    logits_tolerance: Error | None = None
    rotated_tolerance: Error | None = None
    seed: Natural = 0
    allow_limits: tuple[Limit, ...] = ()


@_closed
@dataclass(frozen=True)
class BenchSection:
    """Latency of prefill (`prompt` tokens) and decode (`new` tokens after them); without this table none is taken.

    `prompt` may be a list: every length is prefilled, and decoded after. `new = 0` times prefill alone, as for
    encoders. Every style is timed in turn, round after round, so that a busy moment of the machine falls on all
    alike. `rounds` and `threads` left out are chosen by the benchmark. Runtime torch-compile takes minutes to
    compile, trt needs a [build] table; where either cannot run, it is left out with its reason.

    profile        also measure, in a process for each, memory and the rotation's share of the time
    baseline       an earlier JSON report, written by `ci --update-baseline`: [gates] max_slowdown is held against it.
                   A relative path counts from the working directory
    other_machine  what to do with a baseline of another machine: "refuse" it (exit code 2), "skip" the gate, or
                   "compare" all the same
    unsettled      what becomes of a ratio that other processes keep from being judged: "pass" or "fail"
    """

    prompt: Lengths = 128
    new: Natural = 16
    rounds: Count | None = None
    threads: Threads | None = None
    runtimes: Annotated[tuple[Literal["torch", "torch-compile", "ort", "trt"], ...], Field(min_length=1)] = (
        "torch",
        "ort",
    )
    profile: StrictBool = False
    baseline: Text | None = None
    other_machine: Literal["refuse", "skip", "compare"] = "refuse"
    unsettled: Literal["pass", "fail"] = "pass"

    @property
    def prompts(self) -> tuple[int, ...]:
        return (self.prompt,) if isinstance(self.prompt, int) else self.prompt


@_closed
@dataclass(frozen=True)
class GenerateSection:
    """Greedy text from every runtime, token by token the same as PyTorch's."""

    prompts: Annotated[tuple[Text, ...], Field(min_length=1)]
    new_tokens: Count = 16


@_closed
@dataclass(frozen=True)
class GatesSection:
    """Figures that must hold for the run to pass. Each is judged on what was measured; unmeasured is failed.

    max_logits_error, max_rotated_error  largest absolute difference from PyTorch over all checks
    max_latency_ratio                    largest latency relative to the contestant that ratios refer to: PyTorch,
                                         or the first style (needs [bench])
    max_slowdown                         how many times a ratio may be what it is in [bench] baseline; 1.2 if left
                                         out. Fails only if the noise of both runs cannot explain the rest
    max_artifact_bytes                   largest size of one exported folder
    max_nodes                            most nodes in one graph
    max_runtime_cos_sin                  most Cos and Sin nodes left in a graph; 0 means every angle is in a table
    all_rotations_converted              true: each rotation has the form of its style, and none has another
    one_table_per_rotation               true: one cos and one sin table for each rule, shared by its layers
    provider                             the execution provider of ONNX Runtime that must get every node, such as
                                         "CUDAExecutionProvider": none may fall back to another
    """

    max_logits_error: Error | None = None
    max_rotated_error: Error | None = None
    max_latency_ratio: Error | None = None
    max_slowdown: Error | None = None
    max_artifact_bytes: Annotated[Natural, Field(ge=1)] | None = None
    max_nodes: Annotated[Natural, Field(ge=1)] | None = None
    max_runtime_cos_sin: Natural | None = None
    all_rotations_converted: StrictBool = False
    one_table_per_rotation: StrictBool = False
    provider: Text | None = None


@_closed
@dataclass(frozen=True)
class OutputSection:
    """Where the artifacts and reports go. `folder` left out is `out/` and the file's name without `.toml`."""

    folder: Text = ""
    formats: Annotated[tuple[Format, ...], Field(min_length=1)] = FORMATS


@dataclass(frozen=True)
class RunConfig:
    """One whole file. Tables that were left out have their defaults, or are None where nothing is then done."""

    title: str
    model: ModelSection
    export: ExportSection = ExportSection()
    build: BuildSection | None = None
    check: CheckSection = CheckSection()
    bench: BenchSection | None = None
    generate: GenerateSection | None = None
    gates: GatesSection = GatesSection()
    output: OutputSection = OutputSection()
