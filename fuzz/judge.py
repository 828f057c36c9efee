"""What the outcome of a command on a mutated input must not be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LONGEST = 60.0  # seconds of wall time, beyond which a command hangs
LARGEST = 4_000_000_000  # bytes of resident memory
CODES = (0, 1, 2, 3, 4)
_FRAME = re.compile(r'File "[^"]*?(rope_deploy/[\w/]+\.py)", line (\d+), in (\w+)')


@dataclass(frozen=True)
class Outcome:
    """`code` is negative for a signal. `opened`: files outside the box that were opened; `changed`: inputs that the
    command changed; `left`: hidden leftovers and outputs of a command that failed."""

    code: int
    text: str
    seconds: float
    memory: int
    timed_out: bool = False
    opened: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def faults(outcome: Outcome, *, fails: bool = False) -> list[str]:
    """Each fault as a short signature: two cases with the same one are taken for the same fault."""
    found = []
    if outcome.timed_out or outcome.seconds > LONGEST:
        found.append("hang")
    elif outcome.code < 0:
        found.append(f"signal {-outcome.code}")
    elif outcome.code == 5 or "This is a fault in rope-deploy" in outcome.text:
        found.append(f"internal error: {_where(outcome.text)}")
    elif outcome.code not in CODES:
        found.append(f"exit code {outcome.code}")
    if outcome.memory > LARGEST:
        found.append("memory")
    if "\x1b" in outcome.text:
        found.append("terminal escape")
    found += [f"outside: {name}" for name in outcome.opened]
    found += [f"changed: {name}" for name in outcome.changed]
    found += [f"left: {name}" for name in outcome.left]
    if fails and outcome.code == 0:
        found.append("talked out of its verdict")
    return found


def _where(text: str) -> str:
    """The exception and the last place of ours that its traceback names."""
    frames = _FRAME.findall(text)
    kind = re.search(r"Unexpected (\w+)", text)
    where = f"{frames[-1][0]}:{frames[-1][1]} {frames[-1][2]}" if frames else "no place of ours"
    return f"{kind[1] if kind else 'an exception'} at {where}"


def leftovers(box: Path, code: int) -> tuple[str, ...]:
    """Hidden files anywhere in the box, and outputs of a command that failed."""
    hidden = [path for path in box.rglob(".*") if path.name not in (".", "..")]
    written = [path for path in box.glob("out*/**/*") if code in (2, 3, 4, 5) and path.is_file()]
    return tuple(sorted({str(path.relative_to(box)) for path in [*hidden, *written]}))
