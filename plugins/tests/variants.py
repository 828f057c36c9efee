"""Run each variant of the kernel once and compare: python -m plugins.tests.variants LIBRARY. For compute-sanitizer."""

from __future__ import annotations

import sys
from pathlib import Path

from plugins.binding import Kernel
from plugins.tests.cases import outcome
from plugins.tests.selections import variants


def main(library: str) -> int:
    kernel = Kernel(Path(library))
    cases = list(variants())
    wrong = {case: faults for number, case in enumerate(cases) if (faults := outcome(case, kernel, number))}
    for case, faults in wrong.items():
        print(case, *faults, sep="\n  ")
    print(f"{len(cases)} cases, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
