"""Build an engine with the vendor's library, in the child process of `build_in_child`.

The library's warnings and errors go to standard error: the parent shows the last lines if this process dies.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from rope_deploy.errors import (
    ConfigError,
    EnvironmentMissing,
    GraphRefused,
    RefusedNode,
    RopeDeployError,
    UsageError,
    VendorError,
)
from rope_deploy.trt.engine_request import BuildResult, EngineRequest, Progress
from rope_deploy.trt.flavors import FLAVORS, Flavor

STEP_SECONDS = 0.1  # steps sooner than this after a report are not reported; starts of outer phases always are
# Parts of warnings that are dropped: on graphs with int64 inputs, and on every second use of a function.
HARMLESS_WARNINGS = ("has Int64 binding", "the output tensors of this new instance will not be queryable")
DISAGREEING_SHAPES = "not self-consistent"  # TensorRT only warns of this; the engine cannot run those shapes
OTHER_EXPORT = "Export with another --style or --opset, or a custom operator with --plugin."

Report = Callable[[Progress], None]
Messages = list[tuple[str, str]]  # (level, text) of what the library said


def build(request: EngineRequest, progress: Report) -> BuildResult:
    """Build the engine that `request` describes into its `output`.

    Raises:
        GraphRefused: the library does not take the graph. VendorError: it does not take the plugin library.
        ConfigError: it found the shapes of a profile contradictory. UsageError: it does not know a capability.
        EnvironmentMissing: it cannot be loaded, or memory ran out.
        OSError: the engine could not be written; it names `output`.
    """
    started, messages = time.monotonic(), Messages()
    try:
        version = _build(request, progress, messages)
    except RopeDeployError:
        raise
    except MemoryError:
        raise EnvironmentMissing(
            "Memory ran out.", todo="Use a machine with more memory, or smaller profiles."
        ) from None
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), request.output) from error
    warnings = tuple(dict.fromkeys(text for _, text in messages))
    return BuildResult(version, time.monotonic() - started, warnings)


def _build(request: EngineRequest, progress: Report, messages: Messages) -> str:
    flavor = FLAVORS[request.flavor]
    progress(Progress(f"Loading {flavor.module}"))
    trt = _import_vendor(flavor)
    logger = _logger(trt, messages)
    targets = _targets(trt, flavor, request.capabilities)
    if request.plugin:
        _load_plugin(trt, request.plugin, messages)
    builder = trt.Builder(logger)
    progress(Progress("Reading the graph"))
    network, _parser = _parse(trt, builder, logger, request)
    _mark_taps(network, request.taps)
    create_config = _config(trt, flavor, request, targets, progress)
    _write(_serialize(builder, network, create_config, request, messages), request.output)
    return str(trt.__version__)


def _import_vendor(flavor: Flavor) -> Any:
    try:
        trt = import_module(flavor.module)
        import_module("polygraphy.backend.trt")
        return trt
    except (ImportError, OSError) as error:
        raise EnvironmentMissing(
            f"{flavor.module} is installed but cannot be loaded: {error}", todo=f"Install it again: `{flavor.install}`."
        ) from None


def _logger(trt: Any, messages: Messages) -> Any:
    """A logger that writes warnings and errors, without harmless ones, to standard error and to `messages`."""
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: "error",
        trt.ILogger.Severity.ERROR: "error",
        trt.ILogger.Severity.WARNING: "warning",
    }

    class MessageLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            level = levels.get(severity)
            if level is None or any(part in text for part in HARMLESS_WARNINGS):
                return
            messages.append((level, text))
            print(f"{level}: {text}", file=sys.stderr, flush=True)

    return MessageLogger()


def _targets(trt: Any, flavor: Flavor, capabilities: tuple[str, ...]) -> list[tuple[int, int]] | None:
    """Compute capabilities as Polygraphy takes them; None leaves the choice to the library.

    Raises UsageError for a capability that the library does not know.
    """
    if not capabilities or flavor.needs_gpu:
        return None
    known = {name[2:] for name in dir(trt.ComputeCapability) if name.startswith("SM") and name[2:].isdigit()}
    allowed = sorted((int(digits[:-1]), int(digits[-1])) for digits in known)
    wanted = [(int(major), int(minor)) for major, minor in (text.split(".") for text in capabilities)]
    if unknown := [f"{major}.{minor}" for major, minor in wanted if (major, minor) not in allowed]:
        raise UsageError(
            f"{flavor.module} {trt.__version__} cannot build for {', '.join(unknown)}.",
            exists=f"It builds for {', '.join(f'{major}.{minor}' for major, minor in allowed)}. "
            "It targets RTX and Ada-class GPUs; for others (9.0, 10.0) use --flavor tensorrt.",
        )
    return wanted


def _load_plugin(trt: Any, library: str, messages: Messages) -> None:
    if trt.get_plugin_registry().load_library(library) is None:
        text = f"{library} cannot be loaded as a TensorRT plugin library."
        raise VendorError("\n".join([text, *_errors(messages)]), todo="Build the plugin for this TensorRT.")


def _errors(messages: Messages) -> list[str]:
    return [text for level, text in messages if level == "error"]


def _refused(text: str, details: Sequence[str], todo: str, nodes: Sequence[RefusedNode] = ()) -> GraphRefused:
    return GraphRefused("\n".join([text, *(f"  - {detail}" for detail in details)]), todo=todo, nodes=nodes)


def _parse(trt: Any, builder: Any, logger: Any, request: EngineRequest) -> tuple[Any, Any]:
    """Parse the model into a network; returns it with the parser, which owns its weights. Raises GraphRefused."""
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, logger)
    if request.plugin:  # without the flag a function body or a native layer of that name wins over the plugin
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
    if not parser.parse_from_file(request.model):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise _refused(
            f"{trt.__name__} {trt.__version__} does not accept this graph:",
            [_describe(error) for error in errors],
            OTHER_EXPORT,
            [_node(error) for error in errors],
        )
    if hasattr(trt.LayerType, "ATTENTION_INPUT"):
        from polygraphy.backend.trt import SetDecomposableAttentions

        # Attention without a dedicated kernel, as in float32, becomes matrix products instead of an error.
        SetDecomposableAttentions((builder, network))()
    return network, parser


def _mark_taps(network: Any, names: tuple[str, ...]) -> None:
    """Make values inside the network its outputs, under their own names. Raises GraphRefused for one not found."""
    wanted = set(names) - {network.get_input(index).name for index in range(network.num_inputs)}
    wanted -= {network.get_output(index).name for index in range(network.num_outputs)}
    for index in range(network.num_layers if wanted else 0):
        layer = network.get_layer(index)
        for tensor in (layer.get_output(number) for number in range(layer.num_outputs)):
            if tensor.name in wanted:
                network.mark_output(tensor)
                wanted.remove(tensor.name)
    if wanted:
        raise _refused("These values are not to be seen in the network:", sorted(wanted), OTHER_EXPORT)


def _describe(error: Any) -> str:
    """One parser error: which node, inside which functions, and why."""
    code = str(error.code()).rpartition(".")[2].replace("_", " ").lower()
    reason = error.desc()
    return f"{_node(error)} (node {error.node()}): {code}" + (f": {reason}" if reason not in ("", "false") else "")


def _node(error: Any) -> RefusedNode:
    return RefusedNode(error.node_operator(), error.node_name(), tuple(error.local_function_stack()))


def _config(
    trt: Any, flavor: Flavor, request: EngineRequest, targets: list[tuple[int, int]] | None, progress: Report
) -> Any:
    """A function that makes the builder's configuration, through Polygraphy."""
    from polygraphy.backend.trt import CreateConfig, Profile
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL  # what matters arrives through MessageLogger
    profiles = []
    for shapes in request.profiles:
        profile = Profile()
        for name, (smallest, usual, largest) in shapes.items():
            profile.add(name, min=smallest, opt=usual, max=largest)
        profiles.append(profile)
    common: dict[str, Any] = {"profiles": profiles, "progress_monitor": _monitor(trt, progress)}
    if flavor.name == "rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        create = CreateConfigRTX(compute_capabilities=targets, **common)
    else:
        cache = request.timing_cache if request.timing_cache and os.path.exists(request.timing_cache) else None
        create = CreateConfig(load_timing_cache=cache, **common)

    def make(builder: Any, network: Any) -> Any:
        config = create(builder, network)
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32: TF32 keeps 10 bits of an angle or a score
        return config

    return make


def _monitor(trt: Any, progress: Report) -> Any:
    """A progress monitor of the library that reports phases and their steps to `progress`."""

    class EventMonitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[int, int]] = {}  # name: (depth, steps)
            self.sent = 0.0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            depth = self.phases[parent][0] + 1 if parent in self.phases else 0
            self.phases[name] = (depth, steps)
            self._send(name, 0)

        def step_complete(self, name: str, step: int) -> bool:
            self._send(name, step + 1)
            return True

        def phase_finish(self, name: str) -> None:
            self.phases.pop(name, None)

        def _send(self, name: str, done: int) -> None:
            depth, steps = self.phases.get(name, (0, 0))
            now = time.monotonic()
            if (depth < 2 and done == 0) or now - self.sent >= STEP_SECONDS:
                self.sent = now
                progress(Progress(name, done, steps, depth))

    return EventMonitor()


def _serialize(builder: Any, network: Any, create_config: Any, request: EngineRequest, messages: Messages) -> Any:
    """Build the engine; returns its bytes as the library holds them. Raises ConfigError and GraphRefused."""
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    failure: PolygraphyException | None = None
    try:
        engine = EngineBytesFromNetwork((builder, network), create_config, save_timing_cache=request.new_cache)()
    except PolygraphyException as error:
        failure = error
    if disagreeing := [text for _, text in messages if DISAGREEING_SHAPES in text]:
        raise ConfigError(
            "The shapes of an optimisation profile contradict one another:",
            disagreeing,
            todo="Change the --profile options so that the shapes fit.",
        )
    if failure:
        todo = "The vendor's message names the operator; another --dtype or --style may do."
        raise _refused("The builder refused this graph:", _errors(messages)[-3:] or [str(failure)], todo)
    return engine


def _write(engine: Any, output: str) -> None:
    with open(output, "wb") as stream:
        stream.write(engine)
        stream.flush()
        os.fsync(stream.fileno())
