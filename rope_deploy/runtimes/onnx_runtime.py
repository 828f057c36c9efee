"""Run an artifact in ONNX Runtime.

A plain session, not Polygraphy's OnnxrtRunner: the tapped graph is passed as bytes, and only a session option tells
ONNX Runtime where its weights then lie. Results come back without a copy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnxruntime

from rope_deploy.artifact import MODEL_NAME, Manifest, changed_files, load_manifest
from rope_deploy.errors import EnvironmentMissing, UsageError, VendorError, quoted
from rope_deploy.graph.io import read_for_memory
from rope_deploy.runtimes.feed_checks import check_feeds
from rope_deploy.runtimes.protocol import Arrays
from rope_deploy.runtimes.taps import Products, add_outputs, read_taps
from rope_deploy.runtimes.targets import Target

CPU = ("CPUExecutionProvider",)
SILENT = 4  # fatal only: what goes wrong is raised, with its text
SPINNING = "session.intra_op.allow_spinning"
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


class OrtRuntime:
    """An open artifact. Made by `open_ort`."""

    name = "ort"

    def __init__(
        self, manifest: Manifest, session: onnxruntime.InferenceSession, products: Sequence[Products], taps: bool
    ):
        self.manifest, self.taps = manifest, taps
        self._session, self._products = session, products
        self._results = [info.name for info in manifest.outputs]
        self._all = [output.name for output in session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.protocol`. Raises what `check_feeds` raises, VendorError for ONNX Runtime's own."""
        if taps and not self.taps:
            raise UsageError(
                "This session was opened without taps.", todo="Open it with `open_ort(folder, taps=True)`."
            )
        check_feeds(self.manifest, feeds)
        outputs = self._run(self._all if taps else self._results, feeds)
        if not taps:
            return outputs
        tapped = read_taps(self.manifest, self._products, outputs, feeds)
        return {name: outputs[name] for name in self._results} | tapped

    def unguarded(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """What the graph makes of `feeds` by itself, as in any other program. Raises VendorError for ONNX Runtime's
        own."""
        return self._run(self._results, feeds)

    def _run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> Arrays:
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:  # its exception classes share no base below Exception
            raise VendorError(
                f"ONNX Runtime failed to run {self.manifest.style}.", exists=quoted_error(error)
            ) from error
        return dict(zip(names, values, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session  # frees the weights


def open_target(target: Target) -> OrtRuntime:
    """The artifact of `target`; see `targets`."""
    return open_ort(target.folder, threads=target.threads, taps=target.taps, verify=target.verify)


def open_ort(
    folder: Path,
    *,
    threads: int | None = None,
    taps: bool = False,
    verify: bool = True,
    providers: Sequence[str] = CPU,
) -> OrtRuntime:
    """Open the artifact in `folder`.

    With `taps` the one session also yields what happens at the rotation sites (this keeps ONNX Runtime from fusing
    across them: time a session without). `threads`: None lets ONNX Runtime choose. `verify` compares the files with
    the manifest's hashes.

    Raises UsageError (no artifact, or its files have changed), ConfigError (a faulty manifest), EnvironmentMissing
    (an execution provider is not installed), VendorError (ONNX Runtime cannot load the graph).
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    if verify and (changed := changed_files(folder, manifest)):
        raise UsageError(
            f"{folder} is not what was exported: {', '.join(changed)} missing or changed.",
            todo="Export the model again, or restore the files.",
        )
    require_providers(providers)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    products: tuple[Products, ...] = ()
    model: str | bytes = str(folder / MODEL_NAME)
    if taps:
        proto, weights = read_for_memory(folder / MODEL_NAME)
        products = add_outputs(proto, manifest)
        model = proto.SerializeToString()
        options.add_session_config_entry(WEIGHTS_FOLDER, weights)
        # A check runs PyTorch between any two runs; threads that wait by spinning would take its cores.
        options.add_session_config_entry(SPINNING, "0")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # as above
        raise cannot_load(folder / MODEL_NAME, error) from error
    return OrtRuntime(manifest, session, products, taps)


def require_providers(providers: Sequence[str]) -> None:
    """Raise EnvironmentMissing unless this build of ONNX Runtime has all of `providers`."""
    available = onnxruntime.get_available_providers()
    if missing := [name for name in providers if name not in available]:
        raise EnvironmentMissing(
            f"ONNX Runtime has no {', '.join(missing)}.",
            exists=f"It has {', '.join(available)}.",
            todo="Install the build of ONNX Runtime that brings it, e.g. `pip install onnxruntime-gpu`.",
        )


def cannot_load(path: Path, error: Exception) -> VendorError:
    return VendorError(f"ONNX Runtime cannot load {path}.", exists=quoted_error(error))


def quoted_error(error: Exception) -> str:
    """The message of an error of ONNX Runtime, quoted, without its prefixes."""
    return quoted("ONNX Runtime", re.sub(r".*Status Message:|\[ONNXRuntimeError\] : \d+ : \w+ :", "", str(error)))
