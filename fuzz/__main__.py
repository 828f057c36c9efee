"""`python -m fuzz`: feed rope-deploy mutated inputs and say which of them it does not survive."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from fuzz.campaign import Campaign, Worker
from fuzz.seeds import made_seeds
from fuzz.surfaces import SURFACES

CORPUS = Path(__file__).parent / "corpus"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--cases", type=click.IntRange(min=1), default=1000, show_default=True, help="How many cases.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after so many minutes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed draws other cases.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@click.option(
    "--only", multiple=True, type=click.Choice([surface.name for surface in SURFACES]), help="Only this surface."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/fuzz"), show_default=True)
@click.option("--replay", multiple=True, type=click.Path(exists=True, path_type=Path), help="Run a recipe again.")
@click.option("--corpus", is_flag=True, help="Run every recipe of the corpus.")
def main(
    cases: int,
    minutes: float | None,
    seed: int,
    jobs: int,
    only: tuple[str, ...],
    out: Path,
    replay: tuple[Path, ...],
    corpus: bool,
) -> None:
    """Mutate graphs, weights, manifests, configurations and the rest, and run commands on them.

    A campaign goes on where it was stopped: --out keeps what was done, by seed. Exit code 1 if anything failed.
    """
    if replay or corpus:
        sys.exit(_replay([*replay, *(sorted(CORPUS.glob("*.json")) if corpus else [])], out))
    campaign = Campaign(out, seed, cases, minutes, jobs, only)
    failures = campaign.run()
    total = sum(campaign.codes.values())
    click.echo(f"{total} cases, exit codes {dict(sorted(campaign.codes.items()))}, {len(failures)} kinds of failure")
    for signature, found in sorted(failures.items(), key=lambda item: -item[1]["count"]):
        click.echo(f"{found['count']:6} × {signature} (case {found['number']})")
    sys.exit(bool(failures))


def _replay(recipes: list[Path], out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    worker, failed = Worker(made_seeds(out), out / "replay"), 0
    for path in recipes:
        held = json.loads(path.read_text())
        result = worker.ask({"recipe": held.get("recipe", held)})
        failed += bool(result["faults"])
        click.echo(f"{path.name}: exit code {result['code']}, {', '.join(result['faults']) or 'as it should be'}")
        if result["faults"]:
            click.echo(result["text"])
    worker.close()
    return int(failed > 0)


if __name__ == "__main__":
    main()
