"""Compile the plugin library with CMake."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rope_deploy
from rope_deploy.artifact import new_file, refuse_existing
from rope_deploy.errors import EnvironmentMissing, UsageError, VendorError
from rope_deploy.trt.plugin.library_info import PluginLibrary, read_library
from rope_deploy.trt.plugin.toolchain import Tools, find_tools

LIBRARY = "librope_plugin.so"
SHOWN_LINES = 20  # of what a failed command printed: those with its first error, or else the last
# nvcc's "--list-gpu-code" names these; 90a and 100f are architecture- and family-specific machine code.
ARCHITECTURE = re.compile(r"(?:sm_)?(\d{1,2})\.?(\d)([af]?)(-real|-virtual)?")


def build_plugin(
    target: Path,
    *,
    architectures: Sequence[str] = (),
    tensorrt_root: Path | None = None,
    build_folder: Path | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> PluginLibrary:
    """Compile the plugin library to `target`; needs no GPU and no TensorRT, only its headers.

    `architectures`: "8.0", "80" or "sm_80" for machine code of that compute capability, "80-virtual" for PTX; default:
    all that the library supports and nvcc knows, and PTX for later GPUs. `build_folder` is kept, so that a second build
    is quick; by default a temporary one is used.

    Raises:
        UsageError: `target` exists without `force`, an architecture is unknown, no headers in `tensorrt_root`.
        EnvironmentMissing: a tool or the plugin's source is absent.
        VendorError: CMake or a compiler failed; with its first error.
    """
    refuse_existing(target, force=force)
    wanted = [_architecture(text) for text in architectures]
    source = find_source()
    tools = find_tools(tensorrt_root)
    _check_known(wanted, tools)
    with _build_folder(build_folder, f"{source} {tools} {wanted}") as folder:
        progress(f"Configuring: nvcc {tools.nvcc.version}, TensorRT headers {tools.headers.version}")
        _run(_configure(source, folder, tools, wanted), "CMake refused to configure the build.")
        progress("Compiling")
        command = [tools.cmake.path, "--build", str(folder), "--parallel", str(len(os.sched_getaffinity(0)))]
        _run(command, "The plugin does not compile.")
        with new_file(target, force=force) as unfinished:
            shutil.copyfile(folder / LIBRARY, unfinished)
            unfinished.chmod(0o755)
    return read_library(target)


def find_source() -> Path:
    """The folder of the plugin's CMakeLists.txt: in the installed package, or beside it in a checkout."""
    package = Path(rope_deploy.__file__).parent
    for folder in (package / "_plugins", package.parent / "plugins"):
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise EnvironmentMissing(
        "The plugin's source is not here.", todo="Install rope-deploy from its wheel or run it in a checkout."
    )


def _architecture(text: str) -> str:
    """`text` as CMake names an architecture: "80-real". Raises UsageError if it is none."""
    if (match := ARCHITECTURE.fullmatch(text.strip())) is None:
        raise UsageError(
            f"--arch {text!r} names no compute capability.", todo="Write it as 8.0, 80 or sm_80, e.g. `--arch 8.0,8.9`."
        )
    return f"{match[1]}{match[2]}{match[3]}{match[4] or '-real'}"


def _check_known(wanted: Sequence[str], tools: Tools) -> None:
    """Raise UsageError for architectures that nvcc does not list; if it lists none, nothing is refused."""
    listed = subprocess.run(
        [tools.nvcc.path, "--list-gpu-code"], capture_output=True, text=True, errors="replace"
    ).stdout
    known = [line.removeprefix("sm_") for line in listed.split()]
    if unknown := [text for text in wanted if known and text.split("-")[0] not in known]:
        raise UsageError(
            f"CUDA {tools.nvcc.version} cannot compile for {', '.join(unknown)}.",
            exists=f"It compiles for {', '.join(known)}.",
            todo="Leave these out, or install another CUDA.",
        )


def _configure(source: Path, folder: Path, tools: Tools, architectures: Sequence[str]) -> list[str]:
    command = [
        *(tools.cmake.path, "-S", str(source), "-B", str(folder)),
        *("-G", "Ninja" if Path(tools.make.path).name == "ninja" else "Unix Makefiles"),
        f"-DCMAKE_MAKE_PROGRAM={tools.make.path}",
        f"-DCMAKE_CXX_COMPILER={tools.compiler.path}",
        f"-DCMAKE_CUDA_COMPILER={tools.nvcc.path}",
        f"-DTensorRT_INCLUDE_DIR={tools.headers.path}",
        f"-DROPE_DEPLOY_VERSION={rope_deploy.__version__}",
    ]
    if architectures:
        command.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}")
    return command


@contextmanager
def _build_folder(kept: Path | None, configuration: str) -> Iterator[Path]:
    """The folder to build in. A kept one has a subfolder for each configuration: CMake would mix them."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="rope-plugin-") as temporary:
            yield Path(temporary)
        return
    folder = kept / hashlib.sha256(configuration.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _run(command: list[str], failure: str) -> None:
    """Run `command`. Raises VendorError, with the lines around its first error, if it fails."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if ran.returncode != 0:
        lines = [line for line in ran.stdout.splitlines() if line.strip()]
        failing = [number for number, line in enumerate(lines) if re.search(r"\berror\b", line, re.IGNORECASE)]
        first = max(0, min(failing[0] - 1, len(lines) - SHOWN_LINES)) if failing else max(0, len(lines) - SHOWN_LINES)
        raise VendorError(failure, exists="\n".join(f"  {line}" for line in lines[first : first + SHOWN_LINES]))
