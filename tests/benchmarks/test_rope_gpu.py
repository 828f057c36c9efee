"""The GPU benchmark without a GPU: its path on the CPU, its arithmetic, and what it says of a slow or wrong kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from benchmarks import rope_contestants, rope_gpu
from plugins.binding import Kernel, build_host

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler")
KINDS = ("bfloat16", "float32")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel(build_host())


def steady(contestants, calls: int, rounds: int) -> rope_gpu.Times:
    """A stand-in timer: the n-th contestant takes n µs, twice that in every other round."""
    return {
        one.name: [number * 1e-6 * (1 + round_ % 2) for round_ in range(rounds)]
        for number, one in enumerate(contestants, 1)
    }


def measured(kernel: Kernel, kind: str, shape: tuple[int, ...] = (2, 5, 4, 2, 64)):
    return rope_gpu.measure(shape, kind, kernel, "cpu", 1 << 14, steady, 4, tuning=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", rope_gpu.TYPES)
def test_everyone_rotates_right_and_gets_a_row(kernel: Kernel, kind: str) -> None:
    rows, skipped, moved = measured(kernel, kind)
    assert {"copy", "kernel", "kernel, transposing", "kernel, in place", "kernel, no tables"} <= set(rows)
    assert {"kernel, early start", "kernel, 4 a thread", "PyTorch eager (transformers)"} <= set(rows)
    assert ("kernel, 16-bit tables" in rows) == (kind != "float32")
    assert {"torch.compile", "Triton", "Hugging Face kernel", "ONNX Runtime CUDA"} <= set(skipped)
    size = 4 if kind == "float32" else 2
    assert moved["bytes"] == 2 * size * 2 * 5 * (4 + 2) * 64
    assert all("max_error" in row for row in rows.values() if row["group"] != "floor")


@pytest.mark.slow
def test_buffers_together_are_larger_than_the_cache(kernel: Kernel) -> None:
    _, _, moved = measured(kernel, "float32")
    assert moved["sets"] * moved["bytes"] >= 3 << 14
    assert moved["larger_than_l2"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sign", "nothing"])
def test_a_wrong_rotation_is_not_timed(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def wrong(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return torch.cat((second, first) if what == "sign" else (0 * first, 0 * second), -1)

    import transformers.models.llama.modeling_llama as llama

    monkeypatch.setattr(llama, "rotate_half", wrong)
    with pytest.raises(RuntimeError, match=r"PyTorch eager.*wrong by"):
        measured(kernel, "float32")


def test_an_output_that_is_not_written_is_an_infinite_error() -> None:
    numbers = rope_contestants.Numbers(rope_contestants.Shape(1, 3, 2, 1, 64), "bfloat16", "cpu", 1)
    assert numbers.error(numbers.q_k(numbers.taken, 0)) == float("inf")


def test_a_failing_peer_is_skipped_by_name_and_a_failing_kernel_is_not(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.models.llama.modeling_llama as llama

    def refuses(*arguments, **more) -> str:
        raise ValueError("not today")

    monkeypatch.setattr(llama, "apply_rotary_pos_emb", refuses)
    rows, skipped, _ = measured(kernel, "float32")
    assert skipped["PyTorch eager (transformers)"] == "ValueError: not today"
    assert "PyTorch eager (transformers)" not in rows
    monkeypatch.setattr(kernel, "launch", refuses)
    with pytest.raises(ValueError, match="not today"):
        measured(kernel, "float32")


def test_ratios_are_taken_within_a_round() -> None:
    """All three times as slow in the second round: a busy machine, not a slower contestant."""
    times = {"copy": [1e-6, 3e-6, 1e-6], "kernel": [2e-6, 6e-6, 2e-6], "empty kernel": [5e-7, 1.5e-6, 5e-7]}
    rows = rope_gpu.rows_of(times, moved=4000)
    assert rows["kernel"] == {
        **{"us": 2.0, "us_p10": 2.0, "us_p90": 6.0, "gb_per_s": 2.0, "share_of_copy": 0.5, "times_empty": 4.0}
    }
    assert "gb_per_s" not in rows["empty kernel"]


class FakeCuda:
    """As much of torch.cuda as the timer uses: a clock that each call moves on, and graphs that may refuse."""

    def __init__(self) -> None:
        self.now, self.recording, self.spun = 0.0, None, []

    def CUDAGraph(self) -> object:
        cuda = self

        class Graph:
            def __init__(self) -> None:
                self.calls: list = []

            def replay(self) -> None:
                for call in self.calls:
                    call()

        assert cuda.recording is None
        return Graph()

    @contextmanager
    def graph(self, graph):
        self.recording = graph.calls = []
        try:
            yield
        finally:
            self.recording = None

    def Event(self, enable_timing: bool) -> object:
        cuda = self

        class Event:
            def record(self) -> None:
                self.at = cuda.now

            def elapsed_time(self, other) -> float:
                return other.at - self.at

        return Event()

    def synchronize(self) -> None:
        pass

    def _sleep(self, cycles: int) -> None:
        self.spun.append(cycles)

    def takes(self, milliseconds: float, refuses: bool = False):
        def work() -> None:
            self.now += milliseconds

        def call(i: int) -> None:
            if self.recording is None:
                return work()
            if refuses:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.recording.append(work)

        return call


def test_the_timer_replays_graphs_and_enqueues_what_no_graph_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    for name in ("CUDAGraph", "graph", "Event", "synchronize", "_sleep"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    everyone = [
        rope_contestants.Contestant("fast", cuda.takes(1.0), sets=2),
        rope_contestants.Contestant("slow", cuda.takes(3.0), sets=2),
        rope_contestants.Contestant("refuses", cuda.takes(2.0, refuses=True), sets=2),
        rope_contestants.Contestant("never asked", cuda.takes(4.0, refuses=True), sets=2, graph=False),
    ]
    times = rope_gpu.cuda_timer(everyone, calls=6, rounds=3)
    wanted = {"fast": 1e-3, "slow": 3e-3, "refuses": 2e-3, "never asked": 4e-3}
    assert {name: pytest.approx([seconds] * 3) for name, seconds in wanted.items()} == times
    assert [one.graph for one in everyone] == [True, True, False, False]
    assert sorted(set(cuda.spun)) == [rope_gpu.SPIN, 10 * rope_gpu.SPIN]


def row(us: float, group: str = "kernel", **more: float) -> dict:
    return {"us": us, "group": group, "share_of_copy": 0.95, "times_empty": 1.1, **more}


def test_targets_are_met_and_missed() -> None:
    good = {"kernel": row(20), "kernel, transposing": row(21), "Triton": row(25, "peer"), "copy": row(19, "floor")}
    slow = {**good, "kernel": row(30, share_of_copy=0.7, times_empty=1.6), "Triton": row(25, "peer")}
    shares = {"kernel, fp64-built tables": 0.9999}

    def met(rows: dict, shares: dict) -> list[bool]:
        shapes = {"S4096": {"bfloat16": rows}, "B1": {"bfloat16": rows}}
        return [one["met"] for one in rope_gpu.targets(shapes, shares)]

    assert met(good, shares) == [True] * 6
    assert met(slow, {"kernel, fp64-built tables": 0.5}) == [False, True, False, False, False, False]


def test_the_table_has_a_line_for_everyone() -> None:
    lines = list(
        rope_gpu.table({"S512": {"bfloat16": {"copy": row(5, "floor", gb_per_s=4000), "empty kernel": row(2)}}})
    )
    assert len(lines) == 4
    assert "4000" in lines[3] and "95.0%" in lines[3] and "1.10" in lines[3]
    assert "%" not in lines[2]


def test_bf16_rounding_of_the_reference_is_of_fp64_at_once() -> None:
    """Just above a midpoint, by less than fp32 resolves: through fp32 it would round down, to even."""
    value = torch.tensor([1 + 2.0**-8 + 2.0**-40], dtype=torch.float64)
    assert rope_gpu._nearest_bf16(value).item() == 1 + 2.0**-7
    assert value.float().bfloat16().item() == 1.0


@pytest.mark.slow
def test_a_dry_run_takes_the_whole_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "rope.json"
    shapes = ["S4096", "B64", "SmolLM2"]
    assert rope_gpu.main(["--dry-run", "--out", str(out), "--types", "bfloat16", "--shapes", *shapes]) == 0
    result = json.loads(out.read_text())
    assert list(result["shapes"]) == shapes
    assert "dry run" in result["machine"]["device"] and result["machine"]["versions"]["torch"]
    shares = result["precision"]
    assert shares["kernel, fp64-built tables"] > 0.999 and shares["kernel, no tables"] > 0.999
    assert shares["PyTorch eager"] < 0.7 and shares["kernel, fp32 angles"] < 0.95
    assert {one["target"].split(":")[0] for one in result["targets"]} >= {"S4096 bf16", "SmolLM2 bfloat16"}
    assert "mean nothing" in capsys.readouterr().out


@pytest.mark.slow
def test_time_that_runs_out_leaves_shapes_out_by_name(tmp_path: Path) -> None:
    out = tmp_path / "rope.json"
    assert rope_gpu.main(["--dry-run", "--out", str(out), "--seconds", "-1", "--shapes", "B1"]) == 0
    result = json.loads(out.read_text())
    assert result["shapes"] == {} and set(result["skipped"]) == {f"B1 {kind}" for kind in rope_gpu.TYPES}


def test_without_a_gpu_it_says_so_and_exits_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert rope_gpu.main([]) == 3
    assert "No GPU" in capsys.readouterr().err


def gpu_script(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd="/")


def test_the_script_explains_itself(tmp_path: Path) -> None:
    made = gpu_script()
    assert made.returncode == 2
    assert "gpu.sh OUT [WHEELS]" in made.stderr and "Exit codes" in made.stderr
    assert gpu_script(tmp_path / "out", tmp_path / "absent").returncode == 2


def test_the_script_says_that_nvcc_is_missing(tmp_path: Path) -> None:
    """With a PATH of its own that has the few tools it uses, and no nvcc."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in (
        "bash",
        "basename",
        "cat",
        "date",
        "dirname",
        "mkdir",
        "mktemp",
        "rm",
        "sed",
        "tail",
        "tee",
        "timeout",
    ):
        (tools / name).symlink_to(shutil.which(name))
    made = gpu_script(tmp_path / "out", PATH=str(tools), PYTHON=sys.executable)
    assert made.returncode == 3, made.stderr
    assert "no nvcc" in (tmp_path / "out" / "summary.md").read_text()
    assert "torch" in (tmp_path / "out" / "environment.txt").read_text()
