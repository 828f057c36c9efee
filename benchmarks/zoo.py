"""Every family of transformers that rotates: built tiny, run in PyTorch, exported in every style, and checked.

    python -m benchmarks.zoo                          # all families, all styles; goes on where it was left
    python -m benchmarks.zoo --styles tables llama    # some of it
    python -m benchmarks.zoo --list                   # which families there are

One process a family, with a time and a memory limit; one JSON file a family, in out/zoo. A family is done again when
a package has changed, or with --changed when our own code has.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.common import STYLES, offline
from benchmarks.families import causes, census, coverage, record, workers
from benchmarks.families.subset import SUBSET

BAD = ("wrong", "sites", "crash", "timeout", "memory")
PEERED = ("decoder", "masked-lm")
OUT = Path("out/zoo")
# What every child needs.
IMPORTED = (
    "onnxruntime",
    "torch.onnx",
    "benchmarks.families.judge",
    "rope_deploy.exporter",
    "rope_deploy.graph",
    "rope_deploy.parity",
    "rope_deploy.runs.check",
)
SECONDS, MEGABYTES = 120.0, 6000.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1)
@click.option("--category", "categories", multiple=True, help="Only this kind; may be given several times.")
@click.option("--text", is_flag=True, help="Only text families: decoders, masked-lm, encoder-decoder, text.")
@click.option("--subset", is_flag=True, help="Only the families that stand for the others.")
@click.option("--styles", default=",".join(STYLES), show_default=True, help="Separated by commas.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
@click.option("--seconds", default=SECONDS, show_default=True, help="Limit for one family.")
@click.option("--megabytes", default=MEGABYTES, show_default=True, help="Limit of memory for one family.")
@click.option("--again", is_flag=True, help="Do families again that are done.")
@click.option("--not-green", is_flag=True, help="Do families again that are done and not green.")
@click.option("--changed", is_flag=True, help="Do families again that other code of ours was tried on.")
@click.option("--strict", is_flag=True, help="Exit with 1 if any family is wrong, crashed or was ended.")
@click.option("--peers", "with_peers", is_flag=True, help="Try other exporters on each family too (text only).")
@click.option("--page", type=click.Path(path_type=Path), help="Draw this page (docs/coverage.md) from all records.")
@click.option("--causes", "only_causes", is_flag=True, help="Print what is not green, grouped by why, and stop.")
@click.option("--list", "only_list", is_flag=True, help="Say which families there are, and stop.")
def main(
    names: Sequence[str],
    categories: Sequence[str],
    text: bool,
    subset: bool,
    styles: str,
    out: Path,
    seconds: float,
    megabytes: float,
    again: bool,
    not_green: bool,
    changed: bool,
    strict: bool,
    with_peers: bool,
    page: Path | None,
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
        click.echo(causes.markdown(found for family in families if (found := record.read(out, family.name))))
        return
    asked = tuple(styles.split(","))
    out.mkdir(parents=True, exist_ok=True)
    todo = []
    for family in families:
        found = record.read(out, family.name)
        done = record.is_current(found, asked, same_code=changed)
        if again or not done or (not_green and found.verdict != "green"):
            todo.append(family)
    click.echo(f"{len(families)} families, {len(families) - len(todo)} of them done already.")
    if todo:
        _import_all()
    for number, family in enumerate(todo, 1):
        found = one(family, asked, out, seconds, megabytes)
        click.echo(f"{number:3}/{len(todo)} {line(found)}")
    if with_peers:
        for family in families:
            for result in through_peers(family, out, seconds, megabytes, again=again):
                click.echo(f"{family.name:28} {result['peer']:24} {result['verdict']:8} {result['reason'][:120]}")
    if page is not None:
        records = (found for family in census.families() if (found := record.read(out, family.name)))
        page.write_text(coverage.page(records))
    everything = [found for family in families if (found := record.read(out, family.name))]
    click.echo(
        ", ".join(f"{count} {verdict}" for verdict, count in Counter(r.verdict for r in everything).most_common())
    )


def one(family: census.Family, styles: Sequence[str], out: Path, seconds: float, megabytes: float) -> record.Record:
    """The record of one family, made in a process of its own; written even if that process comes to a bad end."""
    from benchmarks.families.judge import judge

    logs = out / "logs"
    logs.mkdir(exist_ok=True)
    before = record.read(out, family.name)
    record.path_of(out, family.name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True) as work:
        end, words = workers.in_child(
            lambda: judge(family, styles, Path(work), out) and None,
            log=record.path_of(logs, family.name).with_suffix(".log"),
            seconds=seconds,
            megabytes=megabytes,
        )
    found = record.read(out, family.name) or record.Record(family.name, family.category, family.model)
    if end != "done":
        found.verdict, found.reason = end, f"{words} It was at: {found.stage}."
        found.versions, found.code = record.versions(), record.code_digest()
        found.write(out)
    if before is not None and before.versions == record.versions():
        found.peers = before.peers
        found.write(out)
    return found


def through_peers(
    family: census.Family, out: Path, seconds: float, megabytes: float, *, again: bool = False
) -> Iterator[dict[str, Any]]:
    """What each other exporter makes of `family`, entered in its record; nothing for what does not rotate."""
    found = record.read(out, family.name)
    if found is None or not found.expected or family.category not in PEERED:
        return
    _import_all()
    from benchmarks.families.peers import PEERS, judge_peer

    logs = out / "logs"
    for peer in PEERS:
        if peer in found.peers and not again:
            continue
        with tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True) as work:
            log = record.path_of(logs, f"{family.name}-{peer}").with_suffix(".log")
            work_on = partial(judge_peer, family, peer, Path(work))
            end, words = workers.in_child(work_on, log=log, seconds=seconds, megabytes=megabytes)
            answer = Path(work, "peer.json")
            if end == "done" and answer.exists():
                result = json.loads(answer.read_text())
            else:
                result = {"peer": peer, "verdict": end, "reason": words}
        found.peers[peer] = result
        found.write(out)
        yield result


def line(found: record.Record) -> str:
    sites = next((str(one.sites) for one in found.styles.values()), "-")
    expected = "-" if found.expected is None else found.expected
    cached = "" if found.cached in ("", "yes") else " (no cache)"
    words = "" if found.verdict == "green" else f" {found.stage}: {found.reason[:160]}"
    return f"{found.family:28} {found.verdict:12} {sites:>3}/{expected:<3} {found.seconds:5.1f} s{cached}{words}"


def _import_all() -> None:
    """Imported before the first fork, and never used here: threads do not survive a fork."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    import transformers

    for name in IMPORTED:
        importlib.import_module(name)
    transformers.logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main())
