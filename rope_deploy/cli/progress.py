"""Show the steps of long work on standard error: one live line on a terminal, else a line per step with the time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def shown_steps() -> Iterator[Callable[[str], None]]:
    """A function that takes each step as it begins."""
    began = time.perf_counter()
    if not sys.stderr.isatty():
        yield lambda step: click.echo(f"[{time.perf_counter() - began:6.1f} s] {step}", err=True)
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Starting") as status:
        yield lambda step: status.update(f"{step}  [dim]{time.perf_counter() - began:.0f} s[/dim]")
