"""The rotation of q and k on a GPU: our kernel beside copies, PyTorch, Triton and whatever else is installed.

    python -m benchmarks.rope_gpu --out FILE.json [--seconds 240]

Needs numpy, torch and nvcc; nothing of this package but plugins/. Exits with 3 where there is no GPU. `--dry-run`
takes the same path on the CPU with tiny shapes, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

EXIT_NO_GPU = 3
PREFILL = {"S512": (1, 512, 32, 8, 128), "S4096": (1, 4096, 32, 8, 128), "S32768": (1, 32768, 32, 8, 128)}
DECODE = {"B1": (1, 1, 32, 8, 128), "B64": (64, 1, 32, 8, 128), "B256": (256, 1, 32, 8, 128)}
SMOLLM2 = {"SmolLM2": (1, 2048, 9, 3, 64)}
SHAPES = PREFILL | DECODE | SMOLLM2
TYPES = ("bfloat16", "float16", "float32")
PACKAGES = ("torch", "triton", "transformers", "kernels", "onnxruntime", "onnxruntime-gpu", "numpy")
BASE, EMPTY = "copy", "empty kernel"
LEAST_CALLS = 48  # in one measurement, so that the two events' own cost is small
SPIN = 4_000_000  # cycles, about 2 ms: longer than it takes to launch a graph

# Seconds per call of each contestant, one figure a round.
Times = dict[str, list[float]]
Row = dict[str, float]
# What `measure` needs of a device: the calls, and how many of them, in; times out.
Timer = Callable[[Sequence, int, int], Times]


def cuda_timer(contestants: Sequence, calls: int, rounds: int) -> Times:
    """Each contestant's calls in one CUDA graph, replayed once a round in random order, between two events.

    A graph leaves Python and the launch queue out, for the peers as for us. What no graph can hold is enqueued call by
    call. Either is queued while the GPU spins, so that what is timed is the GPU's work and not the queueing.
    """
    import torch

    runs: dict[str, tuple[Callable[[], object], int]] = {}
    for one in contestants:

        def enqueue(call: Callable = one.call, sets: int = one.sets) -> None:
            for number in range(calls):
                call(number % sets)

        enqueue()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            if one.graph:
                with torch.cuda.graph(graph):
                    enqueue()
        except RuntimeError:
            one.graph = False
            torch.cuda.synchronize()
        run = graph.replay if one.graph else enqueue
        run()
        runs[one.name] = run, SPIN if one.graph else 10 * SPIN
    torch.cuda.synchronize()
    spent: Times = {name: [] for name in runs}
    order = random.Random(0)
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order.sample(list(runs), len(runs)):
                run, spin = runs[name]
                began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda._sleep(spin)
                began.record()
                run()
                ended.record()
                torch.cuda.synchronize()
                spent[name].append(began.elapsed_time(ended) / 1e3 / calls)
    finally:
        gc.enable()
    return spent


def wall_timer(contestants: Sequence, calls: int, rounds: int) -> Times:
    """The same turns by the clock, for a dry run on the CPU."""
    spent: Times = {one.name: [] for one in contestants}
    for _ in range(rounds):
        for one in contestants:
            began = time.perf_counter()
            for number in range(calls):
                one.call(number % one.sets)
            spent[one.name].append((time.perf_counter() - began) / calls)
    return spent


def rows_of(times: Times, moved: int) -> dict[str, Row]:
    """Median µs, p10, p90; GB/s of `moved` bytes; the median over rounds of the ratio to a copy and to nothing."""
    rows = {}
    for name, seconds in times.items():
        ordered = sorted(seconds)
        row = {"us": statistics.median(ordered) * 1e6}
        row["us_p10"], row["us_p90"] = (ordered[round(part * (len(ordered) - 1))] * 1e6 for part in (0.1, 0.9))
        if not name.startswith(EMPTY):
            row["gb_per_s"] = moved / row["us"] / 1e3
        for base, ratio in ((BASE, "share_of_copy"), (EMPTY, "times_empty")):
            if base in times:
                per_round = [mine / theirs for mine, theirs in zip(seconds, times[base], strict=True)]
                median = statistics.median(per_round)
                row[ratio] = 1 / median if base == BASE else median
        rows[name] = {key: float(f"{value:.4g}") for key, value in row.items()}
    return rows


def calls_for(sets: int, few: bool) -> int:
    """A whole number of turns through the sets."""
    return sets if few else sets * -(-LEAST_CALLS // sets)


def measure(
    shape: tuple[int, ...], kind: str, kernel, device: str, cache_bytes: int, timer: Timer, rounds: int, tuning: bool
) -> tuple[dict[str, Row], dict[str, str], dict[str, object]]:
    """One shape and type: a row for everyone, all of whom rotate right; who was skipped and why; what was moved."""
    from benchmarks import rope_contestants as who

    numbers = who.Numbers(who.Shape(*shape), kind, device, cache_bytes)
    skipped = who.Skipped()
    taking_part, errors = [], {}
    everyone = [*who.floors(kernel, numbers), *who.ours(kernel, numbers, tuning), *who.peers(numbers, skipped, True)]
    for one in everyone:
        one.sets = numbers.sets
        numbers.taken.fill_(float("nan"))
        try:
            one.call(0)
            result = one.result()
        except Exception as error:  # a peer that fails is left out by name; ours must not
            if one.group == "kernel":
                raise
            skipped.reasons[one.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            continue
        if result is not None:
            errors[one.name] = numbers.error(result)
            if not errors[one.name] <= who.TOLERANCE[kind]:
                raise RuntimeError(f"{one.name} at {shape} in {kind}: wrong by {errors[one.name]:.3g}")
        taking_part.append(one)
    times = timer(taking_part, calls_for(numbers.sets, few=device == "cpu"), rounds)
    rows = rows_of(times, numbers.bytes)
    for one in taking_part:
        rows[one.name] |= {"group": one.group, "graph": one.graph}
        if one.name in errors:
            rows[one.name]["max_error"] = float(f"{errors[one.name]:.3g}")
    moved = {"bytes": numbers.bytes, "sets": numbers.sets, "larger_than_l2": numbers.sets * numbers.bytes > cache_bytes}
    return rows, skipped.reasons, moved


def precision(kernel, device: str, positions: int = 1 << 20, tokens: int = 4096) -> dict[str, float]:
    """Share of bf16 outputs that are the fp64 rotation, correctly rounded; up to `positions`, θ = 1e4, H = 128."""
    import torch

    from benchmarks import rope_contestants as who

    numbers = who.Numbers(who.Shape(1, tokens, 8, 2, 128), "bfloat16", device, 0)
    where = torch.linspace(0, positions, tokens, dtype=torch.float64, device=device).round().long()
    angles = where[:, None].double() * numbers.inv_freq
    numbers.positions = torch.arange(tokens, device=device)[None]  # rows of tables made for these positions alone
    contestants = {}
    for name, table in (("kernel, fp64-built tables", angles), ("kernel, fp32 angles", _fp32_angles(where, numbers))):
        numbers.cos[:tokens], numbers.sin[:tokens] = table.cos().float(), table.sin().float()
        contestants[name] = _launched(kernel, numbers, who)
    steps = torch.from_numpy(kernel.turn_steps(numbers.inv_freq.cpu().numpy()).view("int64")).to(device)
    given = {"turn_steps": steps.data_ptr(), "positions": where.data_ptr()}
    contestants["kernel, no tables"] = _launched(kernel, numbers, who, **given)
    rows = [
        torch.cat([f(_fp32_angles(where, numbers).float()).bfloat16()] * 2, -1)[None] for f in (torch.cos, torch.sin)
    ]
    q, k = (x.transpose(1, 2) for x in numbers.q_k(numbers.given, 0))
    contestants["PyTorch eager"] = tuple(x.transpose(1, 2) for x in who.eager(q, k, *rows))
    c, s = angles.cos()[None, :, None], angles.sin()[None, :, None]
    shares = {}
    for name, came in contestants.items():
        right = total = 0
        for given_x, out in zip(numbers.q_k(numbers.given, 0), came, strict=True):
            a, b = given_x.double().chunk(2, -1)
            wanted = torch.cat([a * c - b * s, b * c + a * s], -1)
            right += (out == _nearest_bf16(wanted)).sum().item()
            total += out.numel()
        shares[name] = float(f"{right / total:.6g}")
    return shares


def _fp32_angles(where, numbers):
    return (where[:, None].float() * numbers.inv_freq.float()).double()


def _launched(kernel, numbers, who, **more: object):
    import torch

    into = torch.full_like(numbers.given, float("nan"))
    if fault := kernel.launch(who.parameters(numbers, 0, into, **more), who.stream()):
        raise RuntimeError(fault)
    if into.is_cuda:
        torch.cuda.synchronize()
    return numbers.q_k(into, 0)


def _nearest_bf16(wanted):
    """fp64 to bf16, rounded once: through fp32, a value near a midpoint could land on it and go the wrong way."""
    import torch

    fraction, exponent = torch.frexp(wanted)
    return torch.ldexp((fraction * 256).round(), exponent - 8).bfloat16()


def targets(shapes: Mapping[str, Mapping[str, Mapping[str, Row]]], shares: Mapping[str, float]) -> list[dict]:
    """What the kernel must reach, what it reached, and whether that is enough."""
    found = []

    def target(what: str, value: float, limit: float, least: bool) -> None:
        met = value >= limit if least else value <= limit
        found.append({"target": what, "value": round(value, 4), "limit": limit, "at_least": least, "met": met})

    for name in PREFILL:
        rows = shapes.get(name, {}).get("bfloat16")
        if rows and name != "S512":
            target(f"{name} bf16: share of copy", rows["kernel"]["share_of_copy"], 0.92, True)
            target(f"{name} bf16, transposing: share of copy", rows["kernel, transposing"]["share_of_copy"], 0.88, True)
    for name in DECODE:
        rows = shapes.get(name, {}).get("bfloat16")
        if rows and "times_empty" in rows["kernel"]:
            for who in ("kernel", "kernel, early start"):
                if who in rows:
                    target(f"decode {name} bf16, {who}: times an empty kernel", rows[who]["times_empty"], 1.15, False)
    for name, kinds in shapes.items():
        for kind, rows in kinds.items():
            fastest = min((row["us"] for row in rows.values() if row["group"] == "peer"), default=None)
            if fastest is not None:
                target(f"{name} {kind}: time over the fastest peer's", rows["kernel"]["us"] / fastest, 1.0, False)
    if shares:
        target("bf16 correctly rounded at a million", shares["kernel, fp64-built tables"], 0.999, True)
    return found


def table(shapes: Mapping[str, Mapping[str, Mapping[str, Row]]]) -> Iterator[str]:
    """Lines for people: µs, GB/s, share of the copy's speed, multiple of an empty kernel's time."""
    for name, kinds in shapes.items():
        for kind, rows in kinds.items():
            yield f"\n{name} {SHAPES[name]} {kind}"
            yield f"  {'':32} {'µs':>9} {'GB/s':>8} {'of copy':>8} {'× empty':>8}"
            for who, row in sorted(rows.items(), key=lambda item: item[1]["us"]):
                share, times = row.get("share_of_copy"), row.get("times_empty")
                speed = row.get("gb_per_s")
                yield (
                    f"  {who:32} {row['us']:9.2f} {'' if speed is None else f'{speed:.0f}':>8}"
                    f" {'' if share is None or speed is None else f'{share:.1%}':>8}"
                    f" {'' if times is None else f'{times:.2f}':>8}"
                )


def machine(device: str) -> dict[str, object]:
    """What ran: the GPU, the versions, the date."""
    import torch

    found: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "device": "CPU: a dry run" if device == "cpu" else torch.cuda.get_device_name(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def small(shape: tuple[int, ...]) -> tuple[int, ...]:
    """For a dry run."""
    batch, tokens, *rest = shape
    return min(batch, 3), min(tokens, 70), *rest


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=240, help="start no further shape after this long")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--types", nargs="+", default=TYPES, choices=TYPES)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    options = parser.parse_args(arguments)
    began = time.monotonic()

    import torch

    from plugins.binding import Kernel, build_cuda, build_host

    if not options.dry_run and not torch.cuda.is_available():
        print("No GPU: nothing was measured. --dry-run tries the code on the CPU.", file=sys.stderr)
        return EXIT_NO_GPU
    device = "cpu" if options.dry_run else "cuda"
    kernel = Kernel(build_host() if options.dry_run else build_cuda())
    cache = 1 << 16 if options.dry_run else torch.cuda.get_device_properties(0).L2_cache_size
    timer, rounds = (wall_timer, 2) if options.dry_run else (cuda_timer, options.rounds)
    result: dict[str, object] = {"benchmark": "rope_gpu", "machine": machine(device)}
    shapes: dict[str, dict[str, dict[str, Row]]] = {}
    moved: dict[str, dict[str, object]] = {}
    skipped: dict[str, str] = {}
    for kind in options.types:  # bf16 first: if time runs out, the rest is missing
        for name in options.shapes:
            if time.monotonic() - began > options.seconds:
                skipped[f"{name} {kind}"] = f"more than {options.seconds:.0f} s had passed"
                continue
            shape = small(SHAPES[name]) if options.dry_run else SHAPES[name]
            rows, left_out, what = measure(shape, kind, kernel, device, cache, timer, rounds, kind == "bfloat16")
            shapes.setdefault(name, {})[kind] = rows
            moved.setdefault(name, {})[kind] = what
            skipped |= left_out
            print(*table({name: {kind: rows}}), sep="\n", flush=True)
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
    shares = precision(kernel, device, tokens=64 if options.dry_run else 4096)
    reached = targets(shapes, shares)
    result |= {"shapes": shapes, "moved": moved, "precision": shares, "skipped": skipped, "targets": reached}
    print("\nCorrectly rounded bf16 outputs, positions up to 1 048 576")
    print(*(f"  {name:32} {share:.3%}" for name, share in shares.items()), sep="\n")
    print("\nSkipped:", *(f"  {name}: {why}" for name, why in skipped.items()), sep="\n")
    print("\nTargets" + (" (a dry run's figures mean nothing)" if options.dry_run else ""))
    for one in reached:
        sign = "≥" if one["at_least"] else "≤"
        print(f"  {'met   ' if one['met'] else 'MISSED'} {one['target']}: {one['value']} ({sign} {one['limit']})")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
