import subprocess
import sys
from importlib.metadata import version

import pytest

from rope_deploy.errors import EnvironmentMissing, UsageError
from rope_deploy.trt import flavors
from rope_deploy.trt.flavors import RTX, TENSORRT, Gpu, find_flavor, installed_version, require_flavor
from tests.trt.graphs import needs_rtx


@pytest.fixture
def installed(monkeypatch):
    """Pretend that these flavours, and no others, are installed, on a machine with these GPUs."""

    def pretend(*names, gpus=()):
        monkeypatch.setattr(flavors, "installed_version", lambda f: "9.9" if f.name in names else None)
        monkeypatch.setattr(flavors, "gpus", lambda: gpus)

    return pretend


def test_an_unknown_flavour_is_refused_with_the_list():
    with pytest.raises(UsageError, match="There are: tensorrt, rtx"):
        find_flavor("trt")


def test_tensorrt_is_the_default_only_with_a_gpu(installed):
    installed("tensorrt", "rtx", gpus=(Gpu("H200", "9.0"),))
    assert find_flavor(None) is TENSORRT
    installed("tensorrt", "rtx")
    assert find_flavor(None) is RTX
    installed("rtx", gpus=(Gpu("H200", "9.0"),))
    assert find_flavor(None) is RTX


@pytest.mark.parametrize("wanted", [RTX, TENSORRT])
def test_a_missing_flavour_comes_with_the_command_that_installs_it(installed, wanted):
    installed()
    with pytest.raises(EnvironmentMissing) as caught:
        require_flavor(wanted)
    assert wanted.install in caught.value.todo
    assert caught.value.exit_code == 3


def test_a_missing_flavour_points_at_the_one_that_is_there(installed):
    installed("rtx")
    with pytest.raises(EnvironmentMissing, match="--flavor rtx"):
        require_flavor(TENSORRT)


def test_tensorrt_without_a_gpu_is_refused_and_rtx_is_not(installed):
    installed("tensorrt", "rtx")
    with pytest.raises(EnvironmentMissing, match="needs an NVIDIA GPU"):
        require_flavor(TENSORRT)
    assert require_flavor(RTX) == "9.9"


def test_a_module_that_is_absent_has_no_version():
    assert installed_version(flavors.Flavor("x", "no_such_module", "", needs_gpu=False, loads_plugins=False)) is None


@needs_rtx
def test_the_installed_rtx_tells_its_version():
    assert installed_version(RTX) == version("tensorrt-rtx")


def test_no_driver_means_no_gpu(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(flavors.ctypes, "CDLL", absent)
    assert flavors.gpus() == ()


@pytest.mark.gpu
def test_a_gpu_tells_its_name_and_capability():
    assert all(gpu.name and float(gpu.capability) >= 5 for gpu in flavors.gpus())
    assert flavors.gpus()


def test_looking_for_a_flavour_imports_no_vendor_package():
    program = (
        "import sys; from rope_deploy.trt import find_flavor, require_flavor\n"
        "try: require_flavor(find_flavor('rtx'))\n"
        "except Exception: pass\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('tensorrt', 'tensorrt_rtx', 'polygraphy', 'onnx')])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
