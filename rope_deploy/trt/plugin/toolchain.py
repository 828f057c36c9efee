"""Find the tools that compile the plugin, and name the command that installs each missing one."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rope_deploy.childprocess import scripts
from rope_deploy.errors import EnvironmentMissing, UsageError

HEADER = "NvInfer.h"
# Where Debian's packages and NVIDIA's archives put the headers.
SYSTEM_HEADERS = (
    f"/usr/include/{os.uname().machine}-linux-gnu",
    "/usr/include",
    "/usr/local/include",
    "/usr/local/tensorrt/include",
    "/opt/tensorrt/include",
)
VERSION_TIMEOUT = 30  # seconds for a tool to print its version


@dataclass(frozen=True)
class Tool:
    """A tool. `install` is a command that installs it; `version_pattern` finds its version in `--version`'s output."""

    name: str
    what: str
    install: str
    version_pattern: str


@dataclass(frozen=True)
class FoundTool:
    path: str
    version: str


NVCC = Tool(
    "nvcc",
    "CUDA's compiler, 12 or newer",
    "pip install nvidia-cuda-nvcc nvidia-cuda-cccl",
    r"release [\d.]+, V([\d.]+)",
)
CMAKE = Tool("cmake", "CMake, 3.20 or newer", "pip install cmake", r"version ([\d.]+)")
MAKE = Tool("make", "what CMake drives: make or ninja", "pip install ninja", r"(\d+(?:\.\d+)+)")
COMPILER = Tool("c++", "a C++17 compiler", "apt install g++", r"(\d+(?:\.\d+)+)")
HEADERS = Tool(
    "tensorrt-headers", "TensorRT's headers, 10.0 or newer", "pip install --no-deps kernel-lens", r"(\d+(?:\.\d+)+)"
)
REQUIRED_TOOLS = (NVCC, CMAKE, MAKE, COMPILER, HEADERS)


@dataclass(frozen=True)
class Tools:
    """All tools, found. The path of `headers` is the folder of NvInfer.h."""

    nvcc: FoundTool
    cmake: FoundTool
    make: FoundTool
    compiler: FoundTool
    headers: FoundTool


def find_tools(tensorrt_root: Path | None = None) -> Tools:
    """Find every tool.

    Raises:
        EnvironmentMissing: tools are absent; it names each with the command that installs it.
        UsageError: there are no headers in `tensorrt_root`, or without it in TENSORRT_ROOT.
    """
    found = {tool: find_tool(tool, tensorrt_root) for tool in REQUIRED_TOOLS}
    missing = [tool for tool, at in found.items() if at is None]
    if missing:
        raise EnvironmentMissing(
            "Compiling the plugin needs what is not here:\n"
            + "\n".join(f"  - {tool.name}, {tool.what}: `{tool.install}`" for tool in missing),
            exists="Found: "
            + (", ".join(f"{t.name} {at.version}" for t, at in found.items() if at) or "nothing else."),
            todo="Install these, then run the command again. A GPU is not needed.",
        )
    return Tools(*found.values())


def find_tool(tool: Tool, tensorrt_root: Path | None = None) -> FoundTool | None:
    """The first of its possible paths where `tool` prints its version, or None. Raises UsageError as `find_tools`."""
    if tool is HEADERS:
        return _headers(tensorrt_root)
    for path in possible_paths(tool):
        if (version := _version_of(path, tool)) is not None:
            return FoundTool(path, version)
    return None


def _version_of(path: str, tool: Tool) -> str | None:
    try:
        ran = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=VERSION_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(tool.version_pattern, ran.stdout) if ran.returncode == 0 else None
    return found[1] if found else None


def possible_paths(tool: Tool) -> Iterator[str]:
    """Paths where `tool` may be: for each of its names on PATH and beside Python, then CUDA's own folders for nvcc."""
    here = scripts()
    names: tuple[str, ...] = {
        HEADERS: (),
        NVCC: ("nvcc",),
        CMAKE: ("cmake",),
        MAKE: ("ninja", "make", "gmake"),
        COMPILER: tuple(filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++"))),
    }[tool]
    for name in names:
        if (path := shutil.which(name)) is not None:
            yield path
        if (here / name).is_file():
            yield str(here / name)
    if tool is NVCC:
        paths = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc"]
        for root in _package_folders("nvidia"):
            paths += sorted(root.glob("*/bin/nvcc"), reverse=True)
        yield from (str(path) for path in paths if path.is_file())


def _package_folders(name: str) -> list[Path]:
    """The folders of an installed Python package, which is not imported; [] if it is absent."""
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []


def _headers(root: Path | None) -> FoundTool | None:
    """Find the headers. Where a folder is named only it counts: another version would be worse than none."""
    named = root or (Path(os.environ["TENSORRT_ROOT"]) if os.environ.get("TENSORRT_ROOT") else None)
    if named is not None:
        folders = [named / "include", named]
    else:
        folders = [Path(folder) for folder in SYSTEM_HEADERS]
        folders += [package / "include" / "tensorrt" for package in _package_folders("kernel_lens")]
    for folder in folders:
        if (folder / HEADER).is_file():
            return FoundTool(str(folder), headers_version(folder))
    if named is not None:
        raise UsageError(
            f"There is no {HEADER} in {named} or in its folder include.",
            todo="Name the folder of an unpacked TensorRT package, with --tensorrt-root or TENSORRT_ROOT.",
        )
    return None


def headers_version(folder: Path) -> str:
    """MAJOR.MINOR.PATCH, or "unknown". Older headers define NV_TENSORRT_MAJOR as the number, newer ones as
    TRT_MAJOR_ENTERPRISE."""
    try:
        text = (folder / "NvInferVersion.h").read_text(errors="replace")
    except OSError:
        return "unknown"
    numbers = [
        re.search(rf"#define (?:NV_TENSORRT_{part}|TRT_{part}_ENTERPRISE)\s+(\d+)", text)
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    return ".".join(number[1] for number in numbers if number) or "unknown"
