"""Which cases to try: every combination of what decides the kernel's path, and one case for each of its variants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from plugins.tests.cases import Case

TYPES = ("float32", "float16", "bfloat16")
PAIRINGS = ("half-split", "interleaved", "proportional")
CACHES = ("float32", "same", "computed")
# (head_dim, rotary_dim): whole heads of every common size, prefixes that vectors fit and that they do not.
WIDTHS = (
    (64, 64),
    (80, 80),
    (96, 96),
    (128, 128),
    (256, 256),
    (64, 16),
    (80, 32),
    (128, 64),
    (96, 36),
    (22, 6),
    (2, 2),
)
LAYOUTS = (("BSNH", "BNSH"), ("BNSH", "BSNH"), ("fused", "BNSH"), ("BSNH", "BSNH"), ("odd", "odd"), ("odd", "BNSH"))
HEADS = ((4, 2), (9, 3), (5, 0), (1, 1))


def with_pairing(pairing: str, case: Case) -> Case:
    return replace(case, interleaved=pairing == "interleaved", proportional=pairing == "proportional")


def varied(number: int) -> dict[str, int | bool]:
    """What need not be combined with everything, varied along with the number of a case."""
    return {"batch": 1 + number % 3, "tokens": (1, 5, 2, 7, 3)[number % 5], "shared": number % 4 == 1}


def grid(kind: str, pairing: str, cache: str) -> Iterator[Case]:
    """Every width × layout (and in place) × position type × head count, sizes and alignment varied along."""
    layouts = [*((a, b, False) for a, b in LAYOUTS), ("BSNH", "", True), ("odd", "", True)]
    combinations = product(WIDTHS, layouts, ("int32", "int64"), HEADS)
    for number, ((head, rotary), (source, target, in_place), positions, (q, k)) in enumerate(combinations):
        yield with_pairing(
            pairing,
            Case(
                type=kind,
                cache=cache,
                **varied(number),
                q_heads=q,
                k_heads=k,
                head_dim=head,
                rotary_dim=rotary,
                positions=positions,
                layout_in=source,
                layout_out=target,
                in_place=in_place,
                offset=(0, 0, 0, 1)[number % 4],
                heads_per_thread=(0, 1, 2, 4)[number % 4],
                early_start=number % 2 == 1,
            ),
        )


def variants() -> Iterator[Case]:
    """Each variant of the kernel, with positions outside the table where there is one."""
    ways: dict[str, dict] = {
        "plain": {"strays": "far"},
        "poisoned": {"poisoned": True},
        "passes": {"strays": "far", "passes": True},
        "computed": {"cache": "computed"},
        "sections": {"sections": (8, 12, 12), "strays": "far"},
    }
    for kind, pairing, way, norm, heads in product(TYPES, PAIRINGS, ways.values(), ("", "qk"), (1, 2, 4)):
        for width in (64, 24):
            case = Case(type=kind, norm=norm, heads_per_thread=heads, batch=2, tokens=5, q_heads=5, k_heads=3)
            case = replace(case, rotary_dim=width, in_place=heads == 2, **way)
            if case.sections and width != 64:
                case = replace(case, sections=(6, 3, 3), mixed=True)
            yield with_pairing(pairing, case)
