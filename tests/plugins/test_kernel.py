"""The kernel against fp64, on the CPU everywhere and on a GPU where there is one: the same cases.

Imports numpy, pytest, plugins/ and rope_deploy.rope alone: benchmarks/gpu.sh runs it where little is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plugins import binding
from plugins.binding import Kernel
from plugins.tests.cases import Case, Problem, Run, encode, outcome
from plugins.tests.selections import CACHES, PAIRINGS, TYPES, grid, variants

ROOT = Path(__file__).parents[2]
# The CPU takes a part of the grid, different for each type and pairing; the GPU takes all of it.
EVERY_ON_CPU = 5


def build(backend: str) -> Path:
    try:
        return binding.build_cuda() if backend == "cuda" else binding.build_host()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module", params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    yield Kernel(build(request.param))


def on_cpu(kernel: Kernel) -> bool:
    return not hasattr(kernel.library, "rope_launch_empty")


def failures(kernel: Kernel, cases: Iterator[Case] | list[Case]) -> dict[Case, list[str]]:
    return {case: wrong for number, case in enumerate(cases) if (wrong := outcome(case, kernel, number))}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_width_layout_position_type_and_head_count_is_right(
    kernel: Kernel, kind: str, pairing: str, cache: str
) -> None:
    cases = list(grid(kind, pairing, cache))
    assert len({(c.head_dim, c.rotary_dim, c.layout_in, c.layout_out, c.positions, c.q_heads) for c in cases}) > 500
    if on_cpu(kernel):
        cases = cases[(TYPES.index(kind) * 3 + PAIRINGS.index(pairing)) % EVERY_ON_CPU :: EVERY_ON_CPU]
    assert failures(kernel, cases) == {}


def test_every_variant_is_right(kernel: Kernel) -> None:
    cases = list(variants())
    cuts = {Run(Problem(case), kernel).cut[:2] for case in cases}
    assert {(8, 1), (8, 2), (8, 4), (4, 1), (4, 2), (4, 4), (1, 1)} <= cuts
    assert failures(kernel, cases) == {}


def test_a_comparison_with_the_other_pairing_fails(kernel: Kernel) -> None:
    """The twin of the tests above: what they compare with matters."""
    problem = Problem(Case())
    run = Run(problem, kernel).launch()
    assert run.outcome() == []
    problem.case = replace(problem.case, interleaved=True)
    assert any("are wrong" in fault for fault in run.outcome())


def test_a_tensor_that_was_not_rotated_fails(kernel: Kernel) -> None:
    run = Run(Problem(Case()), kernel)
    assert run.untouched()
    assert {fault.split(":")[0] for fault in run.outcome()} == {"q", "k"}
    assert Run(Problem(Case(in_place=True)), kernel).outcome() != []


@pytest.mark.parametrize("sizes", [{"tokens": 0}, {"batch": 0}])
def test_nothing_to_rotate_is_fine_and_touches_nothing(kernel: Kernel, sizes: dict) -> None:
    assert outcome(Case(**sizes), kernel) == []
    assert Run(Problem(Case(**sizes)), kernel).cut.items == 0


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("positions", ["int32", "int64"])
def test_a_position_outside_the_table_makes_what_turns_nan(kernel: Kernel, positions: str, heads: int) -> None:
    case = Case(strays="far", positions=positions, rotary_dim=32, tokens=20, heads_per_thread=heads)
    run = Run(Problem(case), kernel).launch()
    assert run.outcome() == []
    came, wanted = run.results("q")
    nan = np.isnan(wanted)
    assert nan[..., :32].any() and not nan[..., 32:].any() and not nan.all()
    assert came.shape == wanted.shape


def test_a_token_outside_the_table_passes_through_to_the_bit_when_asked(kernel: Kernel) -> None:
    problem = Problem(Case(strays="far", passes=True, tokens=20))
    run = Run(problem, kernel).launch()
    assert run.outcome() == []
    outside = ((problem.positions < 0) | (problem.positions >= problem.case.rows))[0]
    came, _ = run.results("q")
    still = np.moveaxis(came, 1, 2)[outside], np.moveaxis(problem.x["q"], 1, 2)[outside]
    assert len(still[0]) > 0
    assert np.array_equal(*still)


def test_infinities_and_nan_pass_through_where_nothing_turns(kernel: Kernel) -> None:
    problem = Problem(Case(type="float16", rotary_dim=32))
    problem.x["q"][..., 40], problem.x["q"][..., 50] = np.inf, np.nan
    came, _ = Run(problem, kernel).launch().results("q")
    assert np.isinf(came[..., 40]).all() and np.isnan(came[..., 50]).all()
    assert np.isfinite(came[..., :40]).all()


def test_large_tensors_take_several_heads_a_thread_and_are_right(kernel: Kernel) -> None:
    case = Case(batch=1, tokens=850 if on_cpu(kernel) else 4096, q_heads=31, k_heads=8, head_dim=128, rotary_dim=128)
    assert Run(Problem(case), kernel).cut.heads_per_thread == 2
    computed = replace(case, cache="computed", in_place=True)
    assert Run(Problem(computed), kernel).cut.heads_per_thread == 4
    assert failures(kernel, [case] if on_cpu(kernel) else [case, computed]) == {}


def share_nearest(run: Run) -> float:
    """Which part of all elements is the fp64 rotation, correctly rounded."""
    pairs = [run.results(name) for name in ("q", "k")]
    kind = run.problem.case.type
    return float(np.mean([np.mean(came == encode(kind, wanted)) for came, wanted in pairs]))


LONG = Case(batch=1, tokens=512, q_heads=4, k_heads=2, head_dim=128, rotary_dim=128, rows=2048)


def with_tables(angle_type: type) -> Problem:
    """Tables for 2048 positions up to 1 048 576, angles in this type."""
    problem = Problem(LONG)
    positions = np.linspace(0, 1 << 20, LONG.rows).astype(np.int64)
    problem.scale = 1.0
    angles = (positions[:, None].astype(angle_type) * problem.inv_freq.astype(angle_type)).astype(np.float64)
    problem.tables = [encode("float32", f(angles)) for f in (np.cos, np.sin)]
    return problem


def test_bf16_is_correctly_rounded_at_positions_of_a_million_with_fp64_tables(kernel: Kernel) -> None:
    problem = with_tables(np.float64)
    exact = positions_of_a_million(problem)
    run = Run(problem, kernel).launch()
    problem.tables = exact
    assert share_nearest(run) >= 0.999


def test_bf16_is_not_correctly_rounded_with_fp32_angles(kernel: Kernel) -> None:
    """The twin: what PyTorch's tables do there."""
    problem = with_tables(np.float32)
    exact = positions_of_a_million(problem)
    run = Run(problem, kernel).launch()
    problem.tables = exact
    assert share_nearest(run) < 0.9


def positions_of_a_million(problem: Problem) -> list[np.ndarray]:
    """The tables of with_tables, not rounded: the reference's."""
    angles = np.linspace(0, 1 << 20, LONG.rows).astype(np.int64)[:, None] * problem.inv_freq
    return [np.cos(angles), np.sin(angles)]


@pytest.mark.parametrize("farthest", [4096, 1 << 20, 1 << 30])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_computed_angles_are_correctly_rounded_at_any_distance(kernel: Kernel, kind: str, farthest: int) -> None:
    run = Run(Problem(replace(LONG, type=kind, cache="computed", farthest=farthest)), kernel).launch()
    assert run.outcome() == []
    assert share_nearest(run) >= (0.999 if kind == "bfloat16" else 0.995)


def test_what_is_wrong_is_said_and_nothing_is_launched(kernel: Kernel) -> None:
    run = Run(Problem(Case()), kernel)
    run.parameters.rotary_dim = 66
    with pytest.raises(ValueError, match="rotary_dim is larger than head_dim"):
        run.launch()
    assert run.untouched()
    run.parameters.rotary_dim = 64
    assert run.launch().outcome() == []
    assert not run.untouched()


@pytest.mark.gpu
@pytest.mark.parametrize("early_start", [False, True])
def test_it_runs_on_torch_tensors_in_a_cuda_graph(early_start: bool) -> None:
    torch = pytest.importorskip("torch")
    kernel, case = Kernel(build("cuda")), Case(early_start=early_start)
    problem = Problem(case)
    q, k = (
        torch.from_numpy(problem.x[name].view(np.int16)).cuda().view(torch.bfloat16).transpose(1, 2).contiguous()
        for name in ("q", "k")
    )  # [B, S, N, H]
    cos, sin = (torch.from_numpy(table).cuda() for table in problem.tables)
    positions = torch.from_numpy(problem.positions[0]).cuda()
    outputs = [torch.full_like(x.transpose(1, 2), float("nan")).contiguous() for x in (q, k)]
    parameters = Run(problem, kernel).parameters
    for tensor, source, target in zip((parameters.q, parameters.k), (q, k), outputs, strict=True):
        tensor.input, tensor.output = source.data_ptr(), target.data_ptr()
    parameters.cos_cache, parameters.sin_cache = cos.data_ptr(), sin.data_ptr()
    parameters.positions = positions.data_ptr()
    assert kernel.launch(parameters, torch.cuda.current_stream().cuda_stream) is None  # loads it: no graph can
    torch.cuda.synchronize()
    for target in outputs:
        target.fill_(float("nan"))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(3):
            assert kernel.launch(parameters, torch.cuda.current_stream().cuda_stream) is None
    graph.replay()
    torch.cuda.synchronize()
    for name, target in zip(("q", "k"), outputs, strict=True):
        wanted, slack = problem.expected(name)
        error = abs(target.double().cpu().numpy() - wanted)
        assert (error <= abs(wanted) * 2.0**-8 + slack).all()


SANITIZER = shutil.which("compute-sanitizer")


def sanitized(tool: str, library: Path) -> subprocess.CompletedProcess[str]:
    if SANITIZER is None:
        pytest.skip("no compute-sanitizer on the path")
    command = [SANITIZER, "--tool", tool, "--error-exitcode", "9", "--print-limit", "5"]
    # Only memcheck's answer depends on the addresses, so only it sees every variant.
    command += [sys.executable, "-m", "plugins.tests.variants", str(library), "1" if tool == "memcheck" else "5"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if "Device not supported" in made.stdout:
        pytest.skip("compute-sanitizer does not support this device")
    return made


@pytest.mark.gpu
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(tool: str) -> None:
    made = sanitized(tool, build("cuda"))
    assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-4000:]


@pytest.mark.gpu
def test_compute_sanitizer_finds_a_read_outside_the_table() -> None:
    """The twin: a kernel that does not compare the position with the table."""
    text = binding.sources()
    guarded = "const bool known = computed || inside<W>(plan, at);"
    assert guarded in text["src/rope_math.h"]
    text["src/rope_math.h"] = text["src/rope_math.h"].replace(guarded, "const bool known = computed || true;")
    made = sanitized("memcheck", binding.build_cuda(text=text))
    assert made.returncode != 0 and "Invalid __global__ read" in made.stdout, made.stdout[-4000:] + made.stderr[-4000:]
