"""Numbers and names as people read them. Shared by every renderer, so that all say the same thing."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence

from rope_deploy.results.records import Kind, Verdict, Worst
from rope_deploy.runtime_registry import REFERENCE, TITLES

_UNITS = (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))
# Ends every written report: by it the next report knows what it may replace (`report/recognise_report.py`).
_MAKER = re.compile(r"Made by rope-deploy(?: \((check|audit|bench|ci|baseline)\))?\.")
VERDICT_WORDS: dict[Verdict, str] = {"passed": "passed", "failed": "failed", "skipped": "not judged"}

# What must not reach a terminal or an XML parser: control characters except tab and newline, lone surrogates,
# non-characters, and the marks that reorder the text around them.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
LAYOUTS = {True: "interleaved", False: "half-split"}  # by whether a rotation is interleaved


def layers(numbers: Sequence[int]) -> str:
    """Layer numbers, in order, as "layer 3" or "layers 0–4, 6–9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    listed = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
    return f"layer{'s' if len(numbers) > 1 else ''} {listed}"


def maker(kind: Kind) -> str:
    """What made a report, as its formats say it: "Made by rope-deploy (check)."."""
    return f"Made by rope-deploy ({kind})." if kind else "Made by rope-deploy."


def made(text: str) -> Kind | None:
    """The kind that `maker` wrote into `text`, which holds one such sentence and nothing else; None for another."""
    return (match[1] or "") if (match := _MAKER.fullmatch(text)) else None


def clean(text: str) -> str:
    """`text` with every unsafe character written as an escape: ESC becomes `\\x1b`."""
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def clean_json(text: str) -> str:
    """A JSON document with every unsafe character, which can only stand in a string, as JSON escapes it."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def line(text: str) -> str:
    """`text`, cleaned, on one line."""
    return " ".join(clean(text).split())


def error(value: float, digits: int = 1) -> str:
    """3.1e-06 → 3.1e-6; zero, infinity and nan by name."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "infinite"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"


def beside(value: float, bound: float) -> str:
    """`value` with as many digits as show on which side of `bound` it is."""
    return next((word for d in (1, 2, 3, 5, 8) if (word := error(value, d)) != error(bound, d)), error(value))


def milliseconds(value: float) -> str:
    if not math.isfinite(value):
        return "?"
    if value >= 1e3:
        return f"{value / 1e3:.2f} s"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} ms"


def moment(created: str) -> str:
    """An ISO 8601 time as "2026-11-22 10:15 UTC"; anything else as it is."""
    try:
        time = datetime.datetime.fromisoformat(created)
    except ValueError:
        return line(created)
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()


def duration(seconds: float) -> str:
    """0.42 s, 12 s, 3 min 20 s."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes in decimal units: 538 MB."""
    if count < 1000:
        return f"{count:.0f} bytes"
    unit, scale = next((pair for pair in _UNITS if count < 999.5 * pair[1]), _UNITS[-1])
    return f"{count / scale:.0f} {unit}" if count >= 99.95 * scale else f"{count / scale:.3g} {unit}"


def number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def runtime(name: str) -> str:
    return TITLES.get(name, line(name))


def target(style: str, runtime_name: str) -> str:
    """Style and runtime in one phrase: "tables · ONNX Runtime"; PyTorch alone has no style."""
    style = line(style)
    if not style or runtime_name == style or (runtime_name == REFERENCE and style in ("-", "pytorch")):
        return runtime(runtime_name)
    return f"{style} · {runtime(runtime_name)}"


def location(worst: Worst) -> str:
    """Where an error lies: "rotated q, layer 3, position 127, row 1"."""
    if worst.role in ("q", "k") and worst.layer is not None:
        parts = [f"rotated {worst.role}", f"layer {worst.layer}"]
    else:
        parts = [line(worst.tensor)]
    if worst.position is not None:
        parts.append(f"position {worst.position}")
    if worst.batch is not None:
        parts.append(f"batch row {worst.batch}")
    return ", ".join(parts)


def share(worst: Worst) -> float:
    """The error as a share of its tolerance; more than 1 is too much. Nan and an absent tolerance count as infinite."""
    if worst.error == 0:
        return 0.0
    if math.isnan(worst.error) or not worst.tolerance > 0:
        return math.inf
    return worst.error / worst.tolerance


def percent(value: float) -> str:
    """A share of the tolerance as text: "3 % of the tolerance", "18 times the tolerance"."""
    if math.isinf(value):
        return "over the tolerance"
    if value >= 9.95:
        return f"{number(value if value < 1000 else float(f'{value:.2g}'))} times the tolerance"
    if value >= 1.95:
        return f"{value:.1f} times the tolerance"
    if 0 < value < 0.01:
        return "< 1 % of the tolerance"
    return "just over the tolerance" if 1 < value < 1.005 else f"{100 * value:.0f} % of the tolerance"


def count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
