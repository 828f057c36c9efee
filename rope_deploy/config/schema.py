"""The shape of an `export_configs/*.toml` file: one frozen dataclass per table.

The types say what a value may be, the defaults what is meant when it is left out; a default that is the command's own
is read from `rope_deploy.options`. Rules that involve more than one value are in `cross_checks.py`, the wording of
faults in `fault_sentences.py`, and `section_options.py` makes the options of the commands from these tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Discriminator, Field, StrictBool, StrictInt, Tag, with_config

from rope_deploy.config.fault_sentences import ONE, SEVERAL
from rope_deploy.options import (
    MOST_THREADS,
    OLDEST_OPSET,
    Angles,
    BenchOptions,
    CheckOptions,
    Dtype,
    ExportOptions,
    FileFormat,
    FlavorName,
    OtherMachine,
    Unsettled,
)
from rope_deploy.runtime_registry import CheckedName, TimedName
from rope_deploy.styles import STYLES, StyleName

# TOML knows its types, so nothing is converted: "128" is not a number and 1 is not true.
Text = Annotated[str, Field(strict=True, pattern=r"\S")]
PackageName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Count = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
Threads = Annotated[StrictInt, Field(ge=1, le=MOST_THREADS)]
Natural = Annotated[StrictInt, Field(ge=0, le=2**63 - 1)]
Error = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
# A number or a list of them. The tags keep pydantic from reporting a fault once for each reading of the value.
Lengths = Annotated[
    Annotated[Count, Tag(ONE)] | Annotated[tuple[Count, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list | tuple) else ONE),
]

MistakeCode = Annotated[str, Field(strict=True, pattern=r"^RD[0-9]{3}$")]

Limit = Literal["left_padding", "chunked_prefill_batch", "prompt_positions", "padded_past", "tokens", "max_position"]

_closed = with_config(ConfigDict(extra="forbid"))


@_closed
@dataclass(frozen=True)
class ModelSection:
    """Which model is exported: `source`, or `package` and `file`, a file inside an installed Python package.

    `source` is a local Hugging Face folder, a `.gguf` file, a hub name, or `package.module:factory`. A relative
    path counts from the working directory, as on the command line. `dtype` is that of the exported weights.
    """

    source: Text | None = None
    package: PackageName | None = None
    file: Text | None = None
    dtype: Dtype = ExportOptions.dtype
    trust_remote_code: StrictBool = ExportOptions.trust_remote_code


@_closed
@dataclass(frozen=True)
class ExportSection:
    """How the graph is written; see `ExportOptions`. `styles` left out are all of them."""

    styles: Annotated[tuple[StyleName, ...], Field(min_length=1)] = tuple(STYLES)
    opset: Annotated[StrictInt, Field(ge=OLDEST_OPSET, le=99)] | None = ExportOptions.opset
    max_position: Count | None = ExportOptions.max_position
    angles: Angles = ExportOptions.angles
    cache: StrictBool = ExportOptions.cache
    fused_attention: StrictBool = ExportOptions.fused_attention
    allow_unmatched: StrictBool = ExportOptions.allow_unmatched
    accept: tuple[MistakeCode, ...] = ExportOptions.accept


@_closed
@dataclass(frozen=True)
class BuildSection:
    """A TensorRT engine from one of the exported styles; without this table none is built.

    `profiles` overrides the ranges taken from the artifact: axis or input name to (least, usual, most).
    """

    flavor: FlavorName = "rtx"
    style: StyleName = "tables"
    compute_capabilities: tuple[Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,2}\.[0-9]$")], ...] = ()
    profiles: dict[str, tuple[Natural, Natural, Natural]] = field(default_factory=dict)


@_closed
@dataclass(frozen=True)
class CheckSection:
    """Parity with PyTorch, always done. Tolerances left out are those of float32; half types have none, and those in an
    artifact's manifest are never used.

    `set` "quick" runs the few cases that still meet every mistake that has a name. `allow_limits` names what an
    artifact may be unable to do, such as "left_padding" of a fused attention: any other limit fails the run, because
    the cases that go beyond it are not judged.
    """

    runtimes: Annotated[tuple[CheckedName, ...], Field(min_length=1)] = CheckOptions.runtimes
    set: Literal["quick", "full"] = "full"
    logits_tolerance: Error | None = None
    rotated_tolerance: Error | None = None
    seed: Natural = CheckOptions.seed
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

    prompt: Lengths = BenchOptions.prompt
    new: Natural = BenchOptions.new
    rounds: Count | None = None
    threads: Threads | None = BenchOptions.threads
    runtimes: Annotated[tuple[TimedName, ...], Field(min_length=1)] = ("torch", "ort")
    profile: StrictBool = BenchOptions.profile
    baseline: Text | None = None
    other_machine: OtherMachine = BenchOptions.other_machine
    unsettled: Unsettled = BenchOptions.unsettled

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
    formats: Annotated[tuple[FileFormat, ...], Field(min_length=1)] = get_args(FileFormat)


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
