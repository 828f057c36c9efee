"""Run each variant of the kernel, or every n-th, and compare; for compute-sanitizer.

python -m plugins.tests.variants LIBRARY [N]
"""

from __future__ import annotations

import sys
from pathlib import Path

from plugins.binding import Kernel
from plugins.tests.cases import outcome
from plugins.tests.selections import variants


def main(library: str, every: str = "1") -> int:
    kernel = Kernel(Path(library))
    cases = list(variants())[:: int(every)]
    wrong = {case: faults for number, case in enumerate(cases) if (faults := outcome(case, kernel, number))}
    for case, faults in list(wrong.items())[:5]:
        print(case, *faults, sep="\n  ")
    print(f"{len(cases)} cases, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
