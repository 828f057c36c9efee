"""Run a TensorRT engine through Polygraphy, which hides most of what differs between the two flavours.

A process holds one flavour: Polygraphy settles it when its TensorRT backend is first imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from rope_deploy.artifact import Manifest, TensorInfo, hash_file, load_manifest
from rope_deploy.errors import EnvironmentMissing, UsageError, VendorError, quoted
from rope_deploy.runtimes.feed_checks import check_feeds
from rope_deploy.runtimes.protocol import Arrays
from rope_deploy.runtimes.taps import read_taps
from rope_deploy.runtimes.targets import Target
from rope_deploy.trt import FLAVORS, EngineManifest, Flavor, Profile, gpus, installed_version, load_engine_manifest


class TrtRuntime:
    """An engine in GPU memory. Made by `open_trt`; it has taps if it was built with them."""

    name = "trt"

    def __init__(
        self,
        manifest: Manifest,
        runner: Any,
        profiles: Sequence[Profile],
        inputs: Sequence[TensorInfo],
        taps: bool = False,
    ):
        self.manifest, self.taps = manifest, taps
        self._runner, self._profiles, self._inputs = runner, profiles, inputs
        self._active = -1

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.protocol`. Raises what `check_feeds` raises, UsageError for a shape that no profile
        covers or taps the engine has not, VendorError for TensorRT's own."""
        if taps and not self.taps:
            raise UsageError(
                "This engine was built without taps.", todo="Build it with `rope-deploy build --taps`, for checks only."
            )
        check_feeds(self.manifest, feeds)
        self._choose(feeds)
        try:
            outputs = self._runner.infer(dict(feeds))
        except Exception as error:  # Polygraphy's and TensorRT's own share no base below Exception
            raise VendorError("TensorRT failed to run the engine.", exists=quoted("TensorRT", error)) from error
        # The runner writes its next answer into the same memory.
        kept = {name: np.array(value) for name, value in outputs.items()}
        results = {info.name: kept[info.name] for info in self.manifest.outputs}
        return results | read_taps(self.manifest, (), kept, feeds) if taps else results

    def _choose(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Activate the first profile that covers these shapes."""
        shapes = {info.name: feeds[info.name].shape for info in self._inputs}
        fitting = [index for index, profile in enumerate(self._profiles) if profile.accepts(self._inputs, shapes)]
        if not fitting:
            sizes = ", ".join(f"{name} {list(shape)}" for name, shape in list(shapes.items())[:3])
            covered = "; ".join(f"{p.name}: {', '.join(f'{a}={r}' for a, r in p.axes.items())}" for p in self._profiles)
            raise UsageError(
                f"No profile of the engine covers {sizes}.",
                exists=f"It was built for {covered}.",
                todo="Build it again with a wider `--profile`.",
            )
        if self._active not in fitting:
            self._runner.set_profile(fitting[0])
            self._active = fitting[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.deactivate()


def open_target(target: Target) -> TrtRuntime:
    """The engine of `target`, built from the artifact in its folder; see `targets`. Its taps are those it was built
    with. Raises EnvironmentMissing if there is no engine, and what `open_trt` raises."""
    if target.engine is None:
        raise EnvironmentMissing("There is no engine to time: it was not built.")
    return open_trt(target.engine, target.manifest or load_manifest(target.folder))


def open_trt(engine: Path, manifest: Manifest, *, plugins: Iterable[Path] = ()) -> TrtRuntime:
    """Load `engine` onto the GPU; `manifest` is that of the artifact it was built from.

    Raises UsageError (no engine, no manifest beside it, the file has changed, or the artifact is another style),
    EnvironmentMissing (the flavour is not installed, there is no GPU, or not one it was built for), VendorError.
    """
    engine = Path(engine)
    if not engine.is_file():
        raise UsageError(f"There is no engine {engine}.", todo="Make one with `rope-deploy build DIR -o FILE.engine`.")
    built = load_engine_manifest(engine)
    if hash_file(engine) != built.engine:
        raise UsageError(f"{engine} is not what was built: its hash differs.", todo="Build it again.")
    if built.style != manifest.style:
        raise UsageError(
            f"{engine} was not built from the artifact given.",
            exists=f"The engine holds {built.style or 'a foreign graph'}, the artifact {manifest.style}.",
        )
    _require(built, FLAVORS[built.flavor])
    runner = _activated(engine, FLAVORS[built.flavor], plugins)
    return TrtRuntime(manifest, runner, built.profiles, built.inputs, taps=bool(built.taps))


def _require(built: EngineManifest, flavor: Flavor) -> None:
    if installed_version(flavor) is None:
        raise EnvironmentMissing(f"{flavor.module} is not installed.", todo=f"Run `{flavor.install}`.")
    here = gpus()
    if not here:
        raise EnvironmentMissing(
            "Running a TensorRT engine needs an NVIDIA GPU; none is visible here.",
            exists=f"The engine is for compute capability {', '.join(built.capabilities)}.",
            todo="Run it on a machine with such a GPU.",
        )
    if not any(_covers(capability, here[0].capability) for capability in built.capabilities):
        raise EnvironmentMissing(
            f"The engine is for compute capability {', '.join(built.capabilities)}.",
            exists=f"This machine has {here[0].name}, capability {here[0].capability}.",
            todo="Build it for this GPU.",
        )


def _covers(built: str, here: str) -> bool:
    """Whether an engine for `built` runs on capability `here`: "8.0" is 8.0 alone, "8.0+" 8.0 and all later ones."""
    if built.endswith("+"):
        return tuple(map(int, here.split("."))) >= tuple(map(int, built[:-1].split(".")))
    return built == here


def _activated(engine: Path, flavor: Flavor, plugins: Iterable[Path]) -> Any:
    import polygraphy.config
    from polygraphy.logger import G_LOGGER

    polygraphy.config.USE_TENSORRT_RTX = flavor.name == "rtx"
    G_LOGGER.module_severity = G_LOGGER.CRITICAL + 1  # it writes to standard output; what goes wrong is raised
    from polygraphy.backend import trt as backend
    from polygraphy.backend.common import BytesFromPath

    trt, errors = import_module(flavor.module), []
    try:
        runtime = trt.Runtime(_logger(trt, errors))
        load = backend.EngineFromBytes(BytesFromPath(str(engine)), runtime=runtime)
        runner = backend.TrtRunner(backend.LoadPlugins([str(path) for path in plugins], obj=load))
        runner.activate()
    except Exception as error:  # as above
        message = " ".join(dict.fromkeys(errors)) or str(error)
        raise VendorError(
            f"{flavor.module} cannot open {engine}.",
            exists=quoted(flavor.module, message),
            todo="An engine opens only in the version that built it, unless it was built version compatible.",
        ) from error
    return runner


def _logger(trt: Any, errors: list[str]) -> Any:
    """A logger that adds errors to `errors` and prints nothing."""

    class Keeper(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                errors.append(text)

    return Keeper()
