"""Draw benchmarks/results/README.md from the JSON files beside it: every target, what was measured, met or not.

python -m benchmarks.tabulate
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.common import RESULTS, UNFUSED
from benchmarks.export_families import OURS
from benchmarks.export_families import TRANSFORMERS as PEER
from benchmarks.latency import GENAI, PREFILL_GRAPH, TRANSFORMERS

ORDER = (
    "latency",
    "export_time",
    "export_families",
    "command_line",
    "agreement",
    "precision",
    "rotation",
    "audit",
    "mutation",
    "mutation_smollm2",
    "mutation_smollm2_float32",
)
PYTORCH = "PyTorch"
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Target:
    """One line of the table: the figure must not exceed (or, for counts, not fall below) the limit."""

    what: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return (
            f"| {self.what} | {sign} {self.limit:.4g} | {self.measured:.4g} | {'met' if self.met else '**not met**'} |"
        )


def targets(results: Results) -> Iterator[Target]:
    """Every target whose benchmark has run."""
    if found := results.get("latency"):
        yield from _latency(found["workloads"])
    if found := results.get("export_time"):
        rows = found["contestants"]
        yield Target(
            "export with cache: wall time relative to transformers.exporters", rows["one style"]["export_s_ratio"], 0.25
        )
        for name in ("one style", "all four styles"):
            yield Target(f"export, {name}: peak memory relative to the weights", rows[name]["peak_over_weights"], 3)
    if found := results.get("export_families"):
        for name, row in found["models"].items():
            # One thread does it all: on a quiet machine its processor time is the time it takes.
            if ratio := row.get("export_cpu_s_ratio"):
                what = f"export of one graph, {name}: processor time relative to transformers.exporters"
                yield Target(what, ratio, found["limit"])
    if found := results.get("command_line"):
        for name, row in found["commands"].items():
            yield Target(f"{name}: processor time relative to before", row["cpu_ratio"], found["limit"])
    if found := results.get("agreement"):
        for style, row in found["styles"].items():
            same = sum(count == found["new_tokens"] for count in row["same_tokens"].values())
            what = f"{style}: texts whose {found['new_tokens']} greedy tokens are PyTorch's"
            yield Target(what, same, len(row["same_tokens"]), at_least=True)
            yield Target(
                f"{style}: largest logits difference from PyTorch", max(row["max_logits_error"].values()), 1e-3
            )
    if found := results.get("precision"):
        yield from _precision(found["dtypes"])
    if found := results.get("mutation"):
        yield from _mutation(found)
    if found := results.get("audit"):
        for name, row in found["contestants"].items():
            what = f"audit of {row['file_gb']:.0f} GB, {name}"
            # One thread does it all: on a quiet machine its processor time is the time it takes.
            yield Target(f"{what}: seconds of processor time", row["cpu_s"], found["limits"]["seconds"])
            yield Target(f"{what}: peak memory in MB", row["peak_mb"], found["limits"]["peak_mb"])


def _latency(workloads: Mapping[str, Any]) -> Iterator[Target]:
    for workload, rows in workloads.items():
        yield Target(f"contrib, {workload}: time relative to {GENAI}", rows["contrib"]["ratio_to"][GENAI], 1.05)
        for style in ("onnx", "tables"):
            for peer in (TRANSFORMERS, PREFILL_GRAPH):
                if peer in rows:
                    yield Target(f"{style}, {workload}: time relative to {peer}", rows[style]["ratio_to"][peer], 1.0)


def _mutation(found: Mapping[str, Any]) -> Iterator[Target]:
    planted, sound = found["planted"], found["untouched"]
    share = {name: planted[name] / planted["mutants"] for name in ("caught", "named")}
    yield Target("share of planted RoPE mistakes that check notices", round(share["caught"], 4), 1.0, at_least=True)
    what = "share of planted RoPE mistakes that check names, with the layers they are in"
    yield Target(what, round(share["named"], 4), 0.95, at_least=True)
    yield Target("checks of untouched artifacts", sound["runs"], 500, at_least=True)
    yield Target("false alarms among them", sound["false_alarms"], 0)


def _precision(dtypes: Mapping[str, Any]) -> Iterator[Target]:
    for dtype, kinds in dtypes.items():
        for kind, rows in kinds.items():
            theirs = next(row for name, row in rows.items() if name.startswith(PYTORCH))
            for key, what in (("max", "largest"), ("mean", "mean")):
                worst, name = max((row[key], name) for name, row in rows.items() if not name.startswith(PYTORCH))
                where = f"{dtype} {kind}: {what} distance from fp64 relative to PyTorch's (furthest: {name})"
                yield Target(where, round(worst / theirs[key], 6), 1.0)


def render(results: Results) -> str:
    """The whole page."""
    parts = ["# Results", _INTRODUCTION, "## Targets", "| target | limit | measured | |\n|---|---|---|---|"]
    parts[-1] += "".join(f"\n{target.row()}" for target in targets(results))
    for name in ORDER:
        if name in results:
            parts += [f"## {name}", _machine(results[name]["machine"]), *_TABLES[name](results[name])]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = (
    "Drawn from the JSON files beside this page by `python -m benchmarks.tabulate`; "
    "[../README.md](../README.md) says how each figure is measured. Ratios are medians of the ratios within a round."
)


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    shared = f"Other programs used {machine['cores_used_by_others']} of its {machine['cores']} cores meanwhile"
    return f"{machine['date']}, {machine['cpu']}, {machine['memory_gb']} GB. {shared}. {versions}."


def _times(groups: Mapping[str, Any], scale: float = 1.0, unit: str = "ms") -> Iterator[str]:
    for group, rows in groups.items():
        baselines = list(dict.fromkeys(base for row in rows.values() for base in row["ratio_to"]))
        head = ["", f"median {unit}", f"p10–p90 {unit}", *(f"÷ {base}" for base in baselines), "error"]
        lines = [
            [
                name,
                f"{row['median_ms'] * scale:.2f}",
                f"{row['p10_ms'] * scale:.2f}–{row['p90_ms'] * scale:.2f}",
                *(f"{row['ratio_to'][base]:.3f}" for base in baselines),
                f"{row.get('max_logits_error', row.get('max_error')):.2g}",
            ]
            for name, row in rows.items()
        ]
        yield f"**{group}**"
        yield _table(head, lines)


def _latency_tables(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{found['model']}, {found['dtype']}, ONNX Runtime on the CPU, {found['threads']} threads, "
        f"{found['rounds']} rounds (decode {2 * found['rounds']}, {found['steps']} steps each). "
        f"`{UNFUSED}` is `--no-fused-attention`. The error is that of the logits against PyTorch's."
    )
    yield from _times(found["workloads"])


def _export_tables(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['model']}, {found['dtype']}, {found['weights_mb']} MB of weights, {found['rounds']} rounds."
    head = ["", "export s", "its processor time s", "process s", "peak MB", "÷ weights", "export ÷", "processor ÷"]
    keys = ("export_s", "export_cpu_s", "process_s", "peak_mb", "peak_over_weights", "export_s_ratio")
    keys += ("export_cpu_s_ratio",)
    yield _table(head, [[name, *(f"{row[k]:.4g}" for k in keys)] for name, row in found["contestants"].items()])


def _export_families_tables(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"One graph with its cache, our style {found['style']}; families tiny and random (`@24` with so many layers), "
        "one round that is not counted and then those of the last column, one thread. Loading is not part of it. "
        "Processor time is what counts where others used the cores: none of this runs in parallel."
    )
    head = ["", "ours s", "its processor time s", "theirs s", "its processor time s", "export ÷", "processor ÷"]
    head += ["others' cores", "rounds"]
    rows = []
    for name, row in found["models"].items():
        seconds = [f"{row[who][key]:.3g}" if who in row else "refused" for who in (OURS, PEER) for key in _SECONDS]
        ratios = [f"{row[key]:.3f}" if key in row else "" for key in ("export_s_ratio", "export_cpu_s_ratio")]
        rows.append([name, *seconds, *ratios, f"{row['cores_used_by_others']}", f"{row['rounds']}"])
    yield _table(head, rows)
    failed = {(name, who): why for name, row in found["models"].items() for who, why in row["failed"].items()}
    yield from (f"Refused, {name} by {who}: {why}" for (name, who), why in failed.items())


def _command_line_tables(found: Mapping[str, Any]) -> Iterator[str]:
    commits = found["commits"]
    yield (
        f"{found['model']}; before is {commits['before']}, after {commits['after']}. Processor time of a command and "
        "its children, median of the rounds; the ratio is the median of those within a round."
    )
    head = ["", "before s", "after s", "after ÷ before", "before MB", "after MB", "rounds"]
    rows = [
        [
            name,
            *(f"{row[who]['cpu_s']:.1f}" for who in ("before", "after")),
            f"{row['cpu_ratio']:.3f}",
            *(f"{row[who]['peak_mb']:.0f}" for who in ("before", "after")),
            f"{len(row['runs']['after'])}",
        ]
        for name, row in found["commands"].items()
    ]
    yield _table(head, rows)


def _agreement_tables(found: Mapping[str, Any]) -> Iterator[str]:
    lengths = list(next(iter(found["styles"].values()))["max_logits_error"])
    yield f"{found['model']}, {found['dtype']}, {found['runtime']}. Largest logits difference by prompt length:"
    rows = [[s, *(f"{r['max_logits_error'][n]:.2g}" for n in lengths)] for s, r in found["styles"].items()]
    yield _table(["", *(f"{n} tokens" for n in lengths)], rows)
    leads = [[f"`{json.dumps(p)[1:-1]}`", f"{about['smallest_lead']:.3g}"] for p, about in found["prompts"].items()]
    yield "By how much, at the closest of the tokens, the chosen one led the second best:"
    yield _table(["prompt", "smallest lead"], leads)


def _precision_tables(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Rotated q and k at positions 0–{found['positions'] - 1}, head_dim {found['head_dim']}, "
        f"θ {found['rotation']['rope_theta']:g}, against float64. float16 in ONNX Runtime, bfloat16 in the ONNX "
        "reference evaluator, where com.microsoft.RotaryEmbedding is run as the standard operator."
    )
    for dtype, kinds in found["dtypes"].items():
        for kind, rows in kinds.items():
            yield f"**{dtype}, {kind}**"
            lines = [
                [name, f"{row['max']:.3g}", f"{row['mean']:.3g}", f"{row['not_nearest']:.1%}"]
                for name, row in rows.items()
            ]
            yield _table(["", "largest error", "mean error", "not the nearest number"], lines)


def _rotation_tables(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"Rotation of q and k once, fp32, {found['threads']} thread, {found['rounds']} rounds, in microseconds."
    yield from _times(found["shapes"], 1e3, "µs")


def _audit_tables(found: Mapping[str, Any]) -> Iterator[str]:
    about = found["model"]
    yield (
        f"A {about['family']} in {about['dtype']} whose weights are holes in the file, {about['positions']} positions, "
        f"a process for each of {found['rounds']} rounds, imports included."
    )
    head = ["", "GB", "median s", "slowest s", "its processor time s", "peak MB"]
    keys = ("file_gb", "median_s", "slowest_s", "cpu_s", "peak_mb")
    yield _table(head, [[name, *(f"{row[k]:.4g}" for k in keys)] for name, row in found["contestants"].items()])


def _mutation_tables(found: Mapping[str, Any]) -> Iterator[str]:
    one, runs = found["in_one_layer"], found["untouched"]["runs"]
    yield (
        f"Tiny models of {len(found['by_family'])} kinds, exported in every style; {found['planted']['mutants']} "
        f"broken copies, {one['mutants']} of them in one layer alone, and {runs} checks of artifacts nobody touched."
    )
    for name in ("code", "style", "dtype"):
        rows = [[key, *(str(counts[k]) for k in _COUNTS)] for key, counts in found[f"by_{name}"].items()]
        yield _table([name, *_COUNTS], rows)


def _real_tables(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"SmolLM2-135M with its trained weights; {found['planted']['mutants']} broken copies, and "
        f"{found['untouched']['runs']} checks (quick set) of artifacts nobody touched, "
        f"{found['untouched']['false_alarms']} of them false alarms."
    )
    rows = []
    none = dict.fromkeys(_COUNTS, 0)
    for key in sorted({*found["by_dtype_and_style"], *found["untouched_by_style"]}):
        counts = found["by_dtype_and_style"].get(key, none)
        alarms = found["untouched_by_style"].get(key, {"runs": 0, "false_alarms": 0})
        rows.append([key, *(str(counts[k]) for k in _COUNTS), f"{alarms['false_alarms']} of {alarms['runs']}"])
    yield _table(["dtype and style", *_COUNTS, "false alarms"], rows)
    yield from (f"Not named: {one['fault']} in {one['dtype']} {one['style']}." for one in found["missed"])


_SECONDS = ("export_s", "export_cpu_s")
_COUNTS = ("mutants", "caught", "named")
_TABLES = {
    "latency": _latency_tables,
    "export_time": _export_tables,
    "export_families": _export_families_tables,
    "command_line": _command_line_tables,
    "agreement": _agreement_tables,
    "precision": _precision_tables,
    "rotation": _rotation_tables,
    "audit": _audit_tables,
    "mutation": _mutation_tables,
    "mutation_smollm2": _real_tables,
    "mutation_smollm2_float32": _real_tables,
}


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


@click.command(help=__doc__.split("\n")[0])
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def main(results: Path) -> None:
    found = read(results)
    (results / "README.md").write_text(render(found))
    for target in targets(found):
        click.echo(f"{'met' if target.met else 'NOT MET':8} {target.what}: {target.measured:.4g} ({target.limit:.4g})")


if __name__ == "__main__":
    main()
