"""Every family of transformers that rotates: built tiny, run in PyTorch, exported in every style, and checked.

    python -m conformance.families                          # all families, all styles; goes on where it was left
    python -m conformance.families --styles tables llama    # some of it
    python -m conformance.families --engines --rope-types   # with what else a family is asked
    python -m conformance.families --published llama phi3   # and with the rules of published checkpoints
    python -m conformance.families --list                   # which families there are
    python -m conformance.families.coverage            # draws docs/coverage.md from what was found

One process a family and part, with a time and a memory limit; one JSON file a family, in out/families. A family is done
again when a package has changed, or with --changed when our own code has.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.common import STYLES, offline
from conformance.families import causes, census, coverage, expected, record
from conformance.families.subset import SUBSET
from conformance.families.sweep import Sweep

OUT = Path("out/families")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1)
@click.option("--category", "categories", multiple=True, help="Only this kind; may be given several times.")
@click.option("--text", is_flag=True, help="Only text families: decoders, masked-lm, encoder-decoder, text.")
@click.option("--subset", is_flag=True, help="Only the families that stand for the others.")
@click.option("--styles", default=",".join(STYLES), show_default=True, help="Separated by commas.")
@click.option("--engines", is_flag=True, help="Also build an engine of each family that is green.")
@click.option("--rope-types", is_flag=True, help="Also every rope type on each decoder that accepts it.")
@click.option("--published", is_flag=True, help="Also the rules that published checkpoints have.")
@click.option("--peers", is_flag=True, help="Also try other exporters on each text family.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep each family's model and artifacts here.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Families at the same time.")
@click.option("--seconds", default=Sweep.seconds, show_default=True, help="Limit for one process.")
@click.option("--megabytes", default=Sweep.megabytes, show_default=True, help="Limit of memory for one process.")
@click.option("--again", is_flag=True, help="Do families again that are done.")
@click.option("--not-green", is_flag=True, help="Do families again that are done and not green.")
@click.option("--changed", is_flag=True, help="Do families again that other code of ours was tried on.")
@click.option("--strict", is_flag=True, help="Exit with 1 if a family is worse than expected, wrong, or crashed.")
@click.option("--expect", is_flag=True, help="Expect from now on what the records say.")
@click.option("--causes", "only_causes", is_flag=True, help="Print what is not green, grouped by why, and stop.")
@click.option("--list", "only_list", is_flag=True, help="Say which families there are, and stop.")
def main(
    names: Sequence[str],
    categories: Sequence[str],
    text: bool,
    subset: bool,
    styles: str,
    engines: bool,
    rope_types: bool,
    published: bool,
    peers: bool,
    out: Path,
    keep: Path | None,
    jobs: int,
    seconds: float,
    megabytes: float,
    again: bool,
    not_green: bool,
    changed: bool,
    strict: bool,
    expect: bool,
    only_causes: bool,
    only_list: bool,
) -> None:
    """Sweep the families NAMES (all without any) and print a line for each."""
    offline()
    try:
        families = census.select(names or (SUBSET if subset else ()), categories or (census.TEXT if text else ()))
    except KeyError as error:
        raise click.UsageError(error.args[0]) from error
    if only_list:
        for family in families:
            click.echo(f"{family.category:16} {family.name:32} {family.model}")
        return
    if only_causes:
        click.echo(causes.markdown(record.read_all(out, families)))
        return
    sweep = Sweep(
        out=out,
        styles=tuple(styles.split(",")),
        seconds=seconds,
        megabytes=megabytes,
        engines=engines,
        ropes=rope_types,
        published=published,
        briefly=subset,
        peers=peers,
        keep=keep,
        again=again,
        not_green=not_green,
        same_code=changed,
    )
    began, number = time.monotonic(), 0
    for number, found in enumerate(sweep.run(families, jobs), 1):
        click.echo(f"{number:3}/{len(families)} {line(found)}")
    records = record.read_all(out, families)
    click.echo(last_line(number, len(families), time.monotonic() - began, records))
    if expect:
        expected.write(records)
    if strict and not as_expected(records):
        sys.exit(1)


def last_line(done: int, families: int, seconds: float, records: Sequence[record.Record]) -> str:
    """How many are done, and how many there are of each verdict, the most frequent first."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(r.verdict for r in records).most_common())
    return f"{done} of {families} families done in {seconds / 60:.1f} min: {counts}."


def as_expected(records: Sequence[record.Record]) -> bool:
    """Print what was not expected; whether none of it is bad."""
    found = expected.surprises(records, expected.read())
    for one in found:
        click.echo(f"{'WORSE' if one.worse else 'better'}: {one.family} {one.text}")
    return not any(one.worse for one in found)


def line(found: record.Record) -> str:
    """A family's record in short."""
    sites = next((str(one.sites) for one in found.styles.values()), "-")
    wanted = "-" if found.expected is None else found.expected
    parts = [] if found.verdict == "green" else [f"{found.stage}: {found.reason[:160]}"]
    if found.cached not in ("", "yes"):
        parts.insert(0, "(no cache)")
    if found.engine:
        parts.append(f"engine: {found.engine.get('style') or found.engine['verdict']}")
    if found.ropes:
        parts.append(f"rope types: {coverage.ropes(found)}")
    if found.published:
        parts.append("published: " + ", ".join(f"{name} {one['verdict']}" for name, one in found.published.items()))
    if found.peers:
        parts.append("peers: " + ", ".join(result["verdict"] for result in found.peers.values()))
    return f"{found.family:28} {found.verdict:12} {sites:>3}/{wanted:<3} {found.seconds:5.1f} s {' '.join(parts)}"


if __name__ == "__main__":
    main()
