"""The process that holds the vendor's library: `python -m rope_deploy.trt.build_worker` reads a Job, writes an engine.

It is a process of its own because Polygraphy fixes the flavour when it is imported, because a library that aborts
must not take the caller with it, and because a build can be stopped only by ending its process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from importlib import import_module
from typing import Any, TextIO

from rope_deploy.errors import RefusedNode
from rope_deploy.trt.build_job import Job, WorkerError
from rope_deploy.trt.flavors import FLAVORS, Flavor

STEP_SECONDS = 0.1  # steps closer together than this are not reported
# Said about every graph with int64 inputs, and of every second use of a function; true, and of no consequence.
NOISE = ("has Int64 binding", "the output tensors of this new instance will not be queryable")
DISAGREEING_SHAPES = "not self-consistent"  # TensorRT mentions this and builds on; the engine cannot run there

Heard = list[tuple[str, str]]  # (level, text) of what the library said


class Channel:
    """JSON lines on what was standard output; whatever a library prints goes to standard error from now on."""

    def __init__(self) -> None:
        self._stream: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), file=self._stream, flush=True)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    _end_with_parent()
    channel = Channel()
    job = Job.from_json(sys.stdin.read())
    try:
        started = time.monotonic()
        version = _build(job, channel)
        channel.send("finished", version=version, seconds=time.monotonic() - started)
        return 0
    except WorkerError as error:
        nodes = [asdict(node) for node in error.nodes]
        channel.send("failed", kind=error.kind, text=error.text, details=error.details, nodes=nodes)
    except MemoryError:
        channel.send("failed", kind="memory", text="Memory ran out.", details=())
    except OSError as error:
        channel.send("failed", kind="disk", text=error.strerror or str(error), details=(error.errno or 0,))
    return 1


def _end_with_parent() -> None:
    """Without a parent there is nobody to build for. Linux says so at once, elsewhere the next report does."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _build(job: Job, channel: Channel) -> str:
    flavor = FLAVORS[job.flavor]
    channel.send("progress", phase=f"Loading {flavor.module}", done=0, steps=0, depth=0)
    trt = _import_vendor(flavor)
    heard: Heard = []
    logger = _logger(trt, channel, heard)
    targets = _targets(trt, flavor, job.capabilities)
    if job.plugin:
        _load_plugin(trt, job.plugin, heard)
    builder = trt.Builder(logger)
    channel.send("progress", phase="Reading the graph", done=0, steps=0, depth=0)
    network, _parser = _parse(trt, builder, logger, job)
    _mark_taps(network, job.taps)
    create_config = _config(trt, flavor, job, targets, channel)
    _write(_serialize(builder, network, create_config, job, heard), job.output)
    return str(trt.__version__)


def _import_vendor(flavor: Flavor) -> Any:
    try:
        trt = import_module(flavor.module)
        import_module("polygraphy.backend.trt")
        return trt
    except (ImportError, OSError) as error:
        raise WorkerError("import", f"{flavor.module} is installed but cannot be loaded: {error}") from None


def _logger(trt: Any, channel: Channel, heard: Heard) -> Any:
    """A logger that passes warnings and errors on, and keeps them in `heard`."""
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: "error",
        trt.ILogger.Severity.ERROR: "error",
        trt.ILogger.Severity.WARNING: "warning",
    }

    class EventLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            level = levels.get(severity)
            if level is None or any(noise in text for noise in NOISE):
                return
            heard.append((level, text))
            channel.send("log", level=level, text=text)

    return EventLogger()


def _targets(trt: Any, flavor: Flavor, capabilities: tuple[str, ...]) -> list[tuple[int, int]] | None:
    """Compute capabilities as Polygraphy wants them; None leaves the choice to the library."""
    if not capabilities or flavor.needs_gpu:
        return None
    known = {name[2:] for name in dir(trt.ComputeCapability) if name.startswith("SM") and name[2:].isdigit()}
    allowed = sorted((int(digits[:-1]), int(digits[-1])) for digits in known)
    wanted = [(int(major), int(minor)) for major, minor in (text.split(".") for text in capabilities)]
    if unknown := [f"{major}.{minor}" for major, minor in wanted if (major, minor) not in allowed]:
        names = tuple(f"{major}.{minor}" for major, minor in allowed)
        raise WorkerError(
            "capability", f"{flavor.module} {trt.__version__} cannot build for {', '.join(unknown)}.", names
        )
    return wanted


def _load_plugin(trt: Any, library: str, heard: Heard) -> None:
    if trt.get_plugin_registry().load_library(library) is None:
        raise WorkerError("plugin", f"{library} cannot be loaded as a TensorRT plugin library.", _texts(heard))


def _texts(heard: Heard, level: str = "error") -> tuple[str, ...]:
    return tuple(text for said_as, text in heard if said_as == level)


def _parse(trt: Any, builder: Any, logger: Any, job: Job) -> tuple[Any, Any]:
    """The network, and the parser that owns its weights."""
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, logger)
    if job.plugin:  # without the flag a function body or a native layer of that name wins over the plugin
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
    if not parser.parse_from_file(job.model):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise WorkerError(
            "parse",
            f"{trt.__name__} {trt.__version__} does not accept this graph:",
            tuple(_describe(error) for error in errors),
            tuple(_node(error) for error in errors),
        )
    if hasattr(trt.LayerType, "ATTENTION_INPUT"):
        from polygraphy.backend.trt import SetDecomposableAttentions

        # Attention without a dedicated kernel, as in float32, becomes matrix products instead of an error.
        SetDecomposableAttentions((builder, network))()
    return network, parser


def _mark_taps(network: Any, names: tuple[str, ...]) -> None:
    """Make values inside the network outputs of it, under their own names."""
    wanted = set(names) - {network.get_input(index).name for index in range(network.num_inputs)}
    wanted -= {network.get_output(index).name for index in range(network.num_outputs)}
    for index in range(network.num_layers if wanted else 0):
        layer = network.get_layer(index)
        for tensor in (layer.get_output(number) for number in range(layer.num_outputs)):
            if tensor.name in wanted:
                network.mark_output(tensor)
                wanted.remove(tensor.name)
    if wanted:
        raise WorkerError("parse", "These values are not to be seen in the network:", tuple(sorted(wanted)))


def _describe(error: Any) -> str:
    """One parser error: which node, inside which functions, and why."""
    code = str(error.code()).rpartition(".")[2].replace("_", " ").lower()
    reason = error.desc()
    return f"{_node(error)} (node {error.node()}): {code}" + (f": {reason}" if reason not in ("", "false") else "")


def _node(error: Any) -> RefusedNode:
    return RefusedNode(error.node_operator(), error.node_name(), tuple(error.local_function_stack()))


def _config(trt: Any, flavor: Flavor, job: Job, targets: list[tuple[int, int]] | None, channel: Channel) -> Any:
    """A function that makes the builder's configuration, by way of Polygraphy."""
    from polygraphy.backend.trt import CreateConfig, Profile
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL  # what matters arrives through EventLogger
    profiles = []
    for shapes in job.profiles:
        profile = Profile()
        for name, (smallest, usual, largest) in shapes.items():
            profile.add(name, min=smallest, opt=usual, max=largest)
        profiles.append(profile)
    common: dict[str, Any] = {"profiles": profiles, "progress_monitor": _monitor(trt, channel)}
    if flavor.name == "rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        create = CreateConfigRTX(compute_capabilities=targets, **common)
    else:
        cache = job.timing_cache if job.timing_cache and os.path.exists(job.timing_cache) else None
        create = CreateConfig(load_timing_cache=cache, **common)

    def make(builder: Any, network: Any) -> Any:
        config = create(builder, network)
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32: TF32 keeps 10 bits of an angle or a score
        return config

    return make


def _monitor(trt: Any, channel: Channel) -> Any:
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
                channel.send("progress", phase=name, done=done, steps=steps, depth=depth)

    return EventMonitor()


def _serialize(builder: Any, network: Any, create_config: Any, job: Job, heard: Heard) -> Any:
    """The engine's bytes, as the library holds them."""
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    failure: PolygraphyException | None = None
    try:
        engine = EngineBytesFromNetwork((builder, network), create_config, save_timing_cache=job.new_cache)()
    except PolygraphyException as error:
        failure = error
    disagreeing = tuple(text for _, text in heard if DISAGREEING_SHAPES in text)
    if disagreeing:
        raise WorkerError("profile", "The shapes of an optimisation profile contradict one another:", disagreeing)
    if failure:
        raise WorkerError("build", "The builder refused this graph:", _texts(heard)[-3:] or (str(failure),))
    return engine


def _write(engine: Any, output: str) -> None:
    with open(output, "wb") as stream:
        stream.write(engine)
        stream.flush()
        os.fsync(stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
