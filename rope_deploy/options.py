"""The options of each command: one frozen dataclass a command, with the only statement of each default.

The functions of `rope_deploy.api` make them of their keyword arguments, which Python users and the command line give;
`config.section_options` makes them of the tables of a TOML file. `runs` and what lies below take them whole. What can
be judged without a model, a file or a library is judged here: an object that exists is consistent in itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rope_deploy.errors import UsageError
from rope_deploy.runtime_registry import ACCEPTED_BY_CHECK, CHECKED, TIMED, require_runtimes
from rope_deploy.styles import require_styles

Angles = Literal["model", "float64"]
Dtype = Literal["float32", "float16", "bfloat16"]
FileFormat = Literal["json", "junit", "markdown", "html", "sarif"]
FlavorName = Literal["tensorrt", "rtx"]
OtherMachine = Literal["refuse", "skip", "compare"]
Unsettled = Literal["pass", "fail"]

AUTO = "auto"  # instead of a style: the one that an engine is best built from
MOST_THREADS = 1024  # each costs memory and a start; no machine has more for one session
# With five rounds the whole range holds the true median in 15 runs of 16, with fewer it says too little to judge by.
FEWEST_ROUNDS = 5
NOTHING_TO_TIME = "A benchmark needs at least one runtime, one prompt token and one round."
OLDEST_OPSET = 17  # no older one is written


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    styles             the styles to write, each to an artifact of its own
    dtype              type of the weights and of the computation, where a model is loaded for the export
    opset              the ONNX opset; None: the oldest that the style and the model's operators have, from 18 on
    max_position       rows of the tables; None: the model's own maximum
    angles             "model": the model's own fp32 arithmetic; "float64": tables computed from its configuration
    example            an .npz file with the arguments of a tower; None: they are made from its configuration
    cache              whether a decoder has its KV cache among its inputs and outputs
    fused_attention    whether style contrib may use GroupQueryAttention
    allow_unmatched    go on although a rotation was not understood
    accept             codes of mistakes, such as "RD301", with which the export goes on
    trust_remote_code  run Python code that comes with the model
    force              replace artifacts that exist already

    Raises UsageError for a style that does not exist or is given twice, or for none.
    """

    styles: tuple[str, ...] = ("tables",)
    dtype: str = "float32"
    opset: int | None = None
    max_position: int | None = None
    angles: Angles = "model"
    example: Path | None = None
    cache: bool = True
    fused_attention: bool = True
    allow_unmatched: bool = False
    accept: tuple[str, ...] = ()
    trust_remote_code: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        require_styles(self.styles)


@dataclass(frozen=True)
class RewriteOptions:
    """How the rotations of an ONNX file are rewritten.

    style            the style that its rotations get
    config           the model's config.json, or its folder: the rule is compared with what the file computes
    angles           "model": the angles that the file computes; "float64": the tables are computed from `config`
    opset            the ONNX opset; None: the file's, or the first that has all its operators
    max_position     rows of the tables; None: those of the file's own tables, else what `config` says
    allow_unmatched  go on although a rotation was not understood
    accept           codes of mistakes with which the rewriting goes on
    run              run the original and the result in ONNX Runtime before the result is put in place
    force            replace a file that exists already

    Raises UsageError for angles in fp64 without a configuration.
    """

    style: str
    config: Path | None = None
    angles: Angles = "model"
    opset: int | None = None
    max_position: int | None = None
    allow_unmatched: bool = False
    accept: tuple[str, ...] = ()
    run: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if self.angles == "float64" and self.config is None:
            raise UsageError(
                "Angles in fp64 are computed from a rule, and none is stated.",
                todo="Give --config with the model's config.json, or leave --angles out.",
            )


@dataclass(frozen=True)
class CheckOptions:
    """How artifacts are compared with PyTorch.

    runtimes           who is compared; "torch" adds nothing, since PyTorch is the reference
    model              where the PyTorch model is, or the loaded model; None: where it was at the export
    engine             the engine file for runtime trt
    cases              the cases to run, by id; (): all
    quick              only the few cases that still meet every mistake that has a name
    seed               of the tokens
    ignore_hashes      go on although files are not those that were exported
    reference          False: judge the rotations by the manifest's rules alone, and load no PyTorch
    isolated           each other runtime has a process of its own, so that its crash is a failed case
    trust_remote_code  run Python code that comes with the model, and a factory that the manifest names
    allow_limits       limits of the artifact that are known of, such as "tokens"
    accept             codes of mistakes that were accepted at the export

    Raises UsageError for an unknown runtime, for none to compare, for trt without an engine, and for a model that no
    reference would be made of.
    """

    runtimes: tuple[str, ...] = ("ort",)
    model: Any = None
    engine: Path | None = None
    cases: tuple[str, ...] = ()
    quick: bool = False
    seed: int = 0
    ignore_hashes: bool = False
    reference: bool = True
    isolated: bool = True
    trust_remote_code: bool = False
    allow_limits: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_runtimes(self.runtimes, self.engine, ACCEPTED_BY_CHECK)
        if self.model is not None and not self.reference:
            raise UsageError("A check without reference needs no model.", todo="Leave out --model or --no-reference.")
        if not self.compared:
            raise UsageError(
                "PyTorch is what others are compared with: nothing would be run.",
                exists=f"Runtimes to compare: {', '.join(CHECKED)}.",
            )

    @property
    def compared(self) -> tuple[str, ...]:
        """The runtimes that are compared with the reference."""
        return tuple(name for name in self.runtimes if name in CHECKED)

    @property
    def case_set(self) -> Literal["quick", "full"]:
        return "quick" if self.quick else "full"


@dataclass(frozen=True)
class AuditOptions:
    """How what a file holds is compared with its model's configuration.

    against        a config.json or its folder; None: what lies beside the file, or an artifact's own manifest
    max_position   how many positions the tables must serve; None: what the configuration says
    fail_on        codes of hazards, such as "RD605", that count as mistakes instead of notes
    ignore_hashes  go on although files are not those that were exported
    """

    against: Path | None = None
    max_position: int | None = None
    fail_on: tuple[str, ...] = ()
    ignore_hashes: bool = False


@dataclass(frozen=True)
class BenchOptions:
    """How artifacts are timed.

    runtimes           who takes part
    model              where the PyTorch model is, or the loaded model; None: where it was at the export
    engine             the engine file for runtime trt
    prompt             lengths of the prefill, in tokens; each is timed, and decoding after it
    new                tokens that are decoded after each; 0 times the prefill alone
    rounds             interleaved rounds
    threads            of each runtime; None: each chooses
    profile            also measure memory and the rotation's share of the time, in a process for each contestant
    baseline           an earlier JSON report: a ratio that has grown by more than `max_slowdown` fails
    max_slowdown       how many times what it was in the baseline a ratio may be. Medians of repeated runs on a shared
                       machine differ by up to 12 %, beyond what the spread within one run shows: memory lies elsewhere
                       in each process
    other_machine      what to do with a baseline of another machine: refuse it, skip the gate, or compare all the same
    unsettled          what becomes of a ratio that other processes keep from being judged
    trust_remote_code  run Python code that comes with the model

    Raises UsageError for an unknown runtime or none, trt without an engine, a number out of range, a length that is
    asked for twice, and too few rounds for a baseline.
    """

    runtimes: tuple[str, ...] = ("ort",)
    model: Any = None
    engine: Path | None = None
    prompt: tuple[int, ...] = (128,)
    new: int = 16
    rounds: int = 10
    threads: int | None = None
    profile: bool = False
    baseline: Path | None = None
    max_slowdown: float = 1.2
    other_machine: OtherMachine = "refuse"
    unsettled: Unsettled = "pass"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        require_runtimes(self.runtimes, self.engine, TIMED)
        require_workloads(self.prompt, self.new, self.rounds)
        if not 0 < self.max_slowdown < math.inf:
            raise UsageError(
                f"A ratio cannot be below {self.max_slowdown:g}.", todo="Give --max-slowdown a number above 0."
            )
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UsageError(
                f"{self.threads} threads cannot be had.", todo=f"Give --threads a number from 1 to {MOST_THREADS}."
            )
        if self.baseline is not None and self.rounds < FEWEST_ROUNDS:
            raise UsageError(
                f"{self.rounds} rounds are too few for a baseline: their spread says nothing.",
                todo=f"Give --rounds {FEWEST_ROUNDS} or more.",
            )


def require_workloads(prompt: Sequence[int], new: int, rounds: int) -> None:
    """Raise UsageError where nothing would be timed, or one length twice."""
    if not prompt or min(prompt) < 1 or new < 0 or rounds < 1:
        raise UsageError(NOTHING_TO_TIME)
    if len(set(prompt)) < len(prompt):
        raise UsageError(f"A length is asked for twice: {', '.join(map(str, prompt))}.", todo="Give each once.")


@dataclass(frozen=True)
class BuildOptions:
    """How a TensorRT engine is built.

    style         the style to build, from several or from a model; "auto": the one that suits the flavour best; None:
                  the artifact or file that is given, as it is
    flavor        "rtx" builds without a GPU, "tensorrt" needs one; None: what fits this machine
    capabilities  compute capabilities to build for, such as "8.9"; (): the flavour's default
    profiles      texts such as "batch=1:1:8" that change what the manifest gives
    plugin        the library with the custom operators, for flavour tensorrt
    timing_cache  where flavour tensorrt keeps its measurements; None: beside the engine
    taps          the engine also returns q and k of every layer, for `check`
    accept        codes of mistakes with which the export of a model goes on
    force         replace an engine that exists already

    Raises UsageError for a style that does not exist.
    """

    style: str | None = None
    flavor: str | None = None
    capabilities: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    plugin: Path | None = None
    timing_cache: Path | None = None
    taps: bool = False
    accept: tuple[str, ...] = ()
    force: bool = False

    def __post_init__(self) -> None:
        if self.style not in (None, AUTO):
            require_styles((self.style,))


@dataclass(frozen=True)
class CiOptions:
    """How a configuration file is carried out.

    source           a model instead of the one that the file names; None: the file's
    force            replace artifacts and engines that exist already
    update_baseline  write the [bench] baseline instead of judging by it, unless the run fails
    """

    source: str | None = None
    force: bool = False
    update_baseline: bool = False
