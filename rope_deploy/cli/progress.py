"""Show the steps of long work on standard error: one live line on a terminal, else a line per step with the time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rope_deploy.cli.console import echo, plain


@contextmanager
def shown_steps() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows each step as it begins."""
    began = time.perf_counter()
    if not sys.stderr.isatty():
        yield lambda step: echo(f"[{time.perf_counter() - began:6.1f} s] {step}", err=True)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status("Starting") as status:
        yield lambda step: status.update(Text.assemble(plain(step), (f"  {time.perf_counter() - began:.0f} s", "dim")))
