"""Processor time of the command line, of this tree and of another one in turn: is it slower than before?

    git worktree add ../before COMMIT
    python -m benchmarks.command_line ../before                             # export and quick check of SmolLM2
    python -m benchmarks.command_line ../before --rounds 1 "make demo"      # all that it does

Both trees run with this Python and its packages. What a command and its children took, user and system, says less about
who else was busy than the clock does; a machine with too few cores still shows in it, and so trees take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks import common

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.05  # of the time before
EXPORT, CHECK, DEMO = "export, one style", "check --quick", "make demo"


def run(tree: Path, folder: Path, arguments: Sequence[str]) -> dict[str, float]:
    """`rope-deploy ARGUMENTS` of the code in `tree`, in `folder`: what it and its children took."""
    began = time.perf_counter()
    with (folder / "output.txt").open("w") as output, subprocess.Popen(
        [sys.executable, "-P", "-m", "rope_deploy", *arguments], cwd=folder, stdout=output, stderr=output,
        env={**os.environ, "PYTHONPATH": str(tree)},
    ) as process:  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = (folder / "output.txt").read_text()[-2000:]
        raise click.ClickException(f"rope-deploy {' '.join(arguments)} of {tree} failed:\n{said}")
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),
    }


def summarise(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, object]:
    """Medians of both trees, and the median over rounds of after ÷ before."""
    ratios = [after["cpu_s"] / before["cpu_s"] for before, after in zip(runs["before"], runs["after"], strict=True)]
    medians = {
        who: {key: float(np.median([one[key] for one in measured])) for key in measured[0]}
        for who, measured in runs.items()
    }
    return {**medians, "cpu_ratio": round(float(np.median(ratios)), 3), "runs": runs}


def commit(tree: Path) -> str:
    found = subprocess.run(["git", "-C", str(tree), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return found.stdout.strip()


@click.command(help=__doc__.split("\n")[0])
@click.argument("before", type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True))
@click.argument("names", nargs=-1, type=click.Choice([EXPORT, CHECK, DEMO]))
@click.option("--after", type=click.Path(path_type=Path, exists=True, resolve_path=True), default=ROOT)
@click.option("--rounds", default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK)
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
def main(before: Path, names: tuple[str, ...], after: Path, rounds: int, work: Path, results: Path) -> None:
    common.offline()
    from rope_deploy.config import ModelSection, model_source

    package, file = common.GGUF
    model = model_source(ModelSection(package=package, file=file))
    arguments = {
        EXPORT: ["export", model, "-o", "exported", "--style", "tables", "--force"],
        CHECK: ["check", "exported", "--quick"],  # of what the tree itself exported
        DEMO: ["ci", "demo.toml", "--force"],
    }
    trees = {"before": before, "after": after}
    folders = {who: (work / "command_line" / who).resolve() for who in trees}
    for who, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "demo.toml").write_text((trees[who] / "export_configs" / "smollm2.toml").read_text())
        if not (folder / "exported").exists():
            run(trees[who], folder, arguments[EXPORT])
    with common.recording("command_line", results) as result:
        runs = {name: {who: [] for who in trees} for name in names or (EXPORT, CHECK)}
        for number in range(rounds):
            for name, measured in runs.items():
                for who in list(trees)[:: -1 if number % 2 else 1]:
                    measured[who].append(run(trees[who], folders[who], arguments[name]))
                    click.echo(f"round {number + 1}: {name}, {who}: {measured[who][-1]}", err=True)
        result |= {"model": common.MODEL, "rounds": rounds, "limit": LIMIT}
        result["commits"] = {who: commit(tree) for who, tree in trees.items()}
        result["commands"] = {name: summarise(measured) for name, measured in runs.items()}
    for name, row in result["commands"].items():
        click.echo(f"{name:20} {row['before']['cpu_s']:8.2f} s {row['after']['cpu_s']:8.2f} s  ÷ {row['cpu_ratio']}")


if __name__ == "__main__":
    main()
