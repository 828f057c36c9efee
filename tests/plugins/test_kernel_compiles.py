"""nvcc takes the kernel, without a warning, for every architecture the plugin is built for. No GPU is needed."""

from __future__ import annotations

import ctypes
import re
import shutil

import pytest

from plugins import binding
from plugins.binding import Kernel
from plugins.tests.cases import Case, Problem, Run

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")

ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")


@pytest.mark.slow
def test_it_compiles_for_the_oldest_architecture_which_has_no_bf16() -> None:
    library = binding.build_cuda(("75",))
    assert Kernel(library).turn_steps([0.0]).tolist() == [0]
    loaded = ctypes.CDLL(str(library))
    assert hasattr(loaded, "rope_launch") and hasattr(loaded, "rope_launch_empty")


@pytest.mark.slow
def test_it_compiles_for_every_architecture() -> None:
    """A third of a third of the variants: bf16, two heads a thread."""
    text = binding.sources()
    plan = text["src/rope_plan.h"]
    one = "return dispatch_pairing<T, 2, norm, plain>(plan, run);\n}"
    plan, shapes = re.subn(r"switch \(plan\.heads_per_thread\) \{.*?\n\}$", one, plan, flags=re.DOTALL | re.MULTILINE)
    plan, types = re.subn(r".*dispatch_norm<(float|Float16)>\(plan, run\);\n", "", plan)
    assert (shapes, types) == (1, 2)
    assert binding.build_cuda(ARCHITECTURES, text=text | {"src/rope_plan.h": plan}).exists()


def test_a_kernel_that_is_no_cuda_fails_with_nvcc_s_words() -> None:
    text = binding.sources()
    text["src/rope_kernel.cu"] = text["src/rope_kernel.cu"].replace("__shfl_xor_sync", "__shfl_xor_sink")
    with pytest.raises(RuntimeError, match="__shfl_xor_sink"):
        binding.build_cuda(("75",), text=text)


@pytest.mark.slow
def test_without_a_gpu_a_launch_says_so() -> None:
    """CUDA's words come back; nothing throws or aborts."""
    try:
        if ctypes.CDLL("libcuda.so.1").cuInit(0) == 0:
            pytest.skip("there is a GPU")
    except OSError:
        pass
    host = Run(Problem(Case()), Kernel(binding.build_host()))
    words = Kernel(binding.build_cuda(("75",))).launch(host.parameters)
    assert words is not None and "CUDA" in words
    assert host.untouched()
