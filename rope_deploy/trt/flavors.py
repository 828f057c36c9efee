"""The two TensorRT flavours: which are installed, what each can do, and how to install what is missing.

Nothing here imports a vendor package: presence is read from the import system, the version from the package
metadata, GPUs from the driver. A process can hold one flavour only, because Polygraphy chooses it at import.
"""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from rope_deploy.errors import EnvironmentMissing, UsageError


@dataclass(frozen=True)
class Flavor:
    """One flavour. `module` is the Python package, `install` the command that installs it."""

    name: str
    module: str
    install: str
    needs_gpu: bool
    loads_plugins: bool


RTX = Flavor("rtx", "tensorrt_rtx", "pip install tensorrt-rtx", needs_gpu=False, loads_plugins=False)
TENSORRT = Flavor(
    "tensorrt",
    "tensorrt",
    "pip install tensorrt",
    needs_gpu=True,
    loads_plugins=True,
)
FLAVORS = {flavor.name: flavor for flavor in (TENSORRT, RTX)}


def find_flavor(name: str | None) -> Flavor:
    """The flavour called `name`; without a name TensorRT if it is installed and has a GPU, else TensorRT-RTX.

    Raises UsageError for an unknown name.
    """
    if name is None:
        return TENSORRT if installed_version(TENSORRT) and gpus() else RTX
    if name not in FLAVORS:
        raise UsageError(f"There is no TensorRT flavour {name!r}.", exists=f"There are: {', '.join(FLAVORS)}.")
    return FLAVORS[name]


def installed_version(flavor: Flavor) -> str | None:
    """The version of the installed package ("unknown" if it does not say), or None if it is absent."""
    if importlib.util.find_spec(flavor.module) is None:
        return None
    for distribution in packages_distributions().get(flavor.module, ()):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


def require_flavor(flavor: Flavor) -> str:
    """The installed version. Raises EnvironmentMissing if the flavour, Polygraphy or a GPU that it needs is absent."""
    found = installed_version(flavor)
    others = [f"{other.name} {v}" for other in FLAVORS.values() if (v := installed_version(other)) and other != flavor]
    if found is None:
        raise EnvironmentMissing(
            f"The TensorRT flavour {flavor.name!r} needs the Python package {flavor.module}, which is not installed.",
            exists=f"Installed: {', '.join(others) or 'no TensorRT flavour'}.",
            todo=f"Run `{flavor.install}`" + (f", or build with `--flavor {others[0].split()[0]}`." if others else "."),
        )
    if importlib.util.find_spec("polygraphy") is None:
        raise EnvironmentMissing("Building an engine needs Polygraphy.", todo="Run `pip install polygraphy`.")
    if flavor.needs_gpu and not gpus():
        raise EnvironmentMissing(
            f"The TensorRT flavour {flavor.name!r} needs an NVIDIA GPU to build an engine; none is visible here.",
            exists=f"{flavor.module} {found} is installed; the CUDA driver reports no device.",
            todo="Build on a machine with a GPU, or with `--flavor rtx`, which needs none.",
        )
    return found


@dataclass(frozen=True)
class Gpu:
    """One GPU. `capability` is its compute capability, as MAJOR.MINOR."""

    name: str
    capability: str


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that the CUDA driver shows; none if there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    return tuple(_gpu(driver, index) for index in range(count.value))


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    numbers = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return Gpu(name.value.decode(errors="replace"), f"{numbers[0]}.{numbers[1]}")
