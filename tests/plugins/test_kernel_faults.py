"""Kernels with a planted fault, compiled for the CPU: the comparison with fp64 must notice each of them."""

from __future__ import annotations

import pytest

from plugins import binding
from plugins.binding import Kernel
from plugins.tests.cases import Case, outcome
from tests.sweep import swept

# What is wrong: the file, what stands there, what stands there instead.
FAULTS: dict[str, tuple[str, str, str]] = {
    "the sine's sign": ("src/rope_math.h", "fmaf(a, c, -(b * s))", "fmaf(a, c, b * s)"),
    "the first result is used for the second": (
        "src/rope_math.h",
        "b = fmaf(b, c, a * s);\n    a = first;",
        "a = first;\n    b = fmaf(b, c, a * s);",
    ),
    "one row too many is inside": ("src/rope_math.h", "at.axis(0)) < rows", "at.axis(0)) <= rows"),
    "only the first axis is compared": ("src/rope_math.h", "int i = 1; i < 3; ++i) all", "int i = 1; i < 1; ++i) all"),
    "signed comparison": (
        "src/rope_math.h",
        "static_cast<std::uint64_t>(at.axis(0)) < rows",
        "at.axis(0) < static_cast<std::int64_t>(rows)",
    ),
    "int64 positions are cut to 32 bits": (
        "src/rope_math.h",
        "return wide ? both :",
        "return wide ? static_cast<std::int32_t>(both) :",
    ),
    "sequences share positions": ("src/rope_math.h", "place.batch * p.position_batch_stride +", ""),
    "sections are swapped": (
        "src/rope_math.h",
        "return third ? at.axis(2) : second ? at.axis(1)",
        "return third ? at.axis(1) : second ? at.axis(2)",
    ),
    "interleaved sections do not end": (
        "src/rope_math.h",
        "i % 3 == 1 && i < 3 * p.section[1]",
        "i % 3 == 1 && p.section[1] >= 0",
    ),
    "the last head's neighbour is turned": ("src/rope_math.h", "left < W::G ? left : W::G", "W::G"),
    "second vectors take the first's columns": (
        "src/rope_math.h",
        "W::kWithin ? chunk.second / 2",
        "W::kWithin ? chunk.first / 2",
    ),
    "bf16 is cut, not rounded": ("src/rope_types.h", "(bits + 0x7fffU + (bits >> 16 & 1U)) >> 16", "bits >> 16"),
    "the norm forgets its epsilon's place": (
        "tests/rope_host.cpp",
        "static_cast<float>(plan.p.head_dim)",
        "static_cast<float>(plan.p.rotary_dim)",
    ),
    "a proportional rotation pairs within the prefix": (
        "src/rope_plan.h",
        "(p.proportional ? p.head_dim : p.rotary_dim) / 2",
        "p.rotary_dim / 2",
    ),
    "strides of the output are the input's": (
        "src/rope_math.h",
        "offset_of(x.out_stride, place)",
        "offset_of(x.in_stride, place)",
    ),
}


def build(**arguments) -> Kernel:
    try:
        return Kernel(binding.build_host(**arguments))
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


def noticing() -> list[Case]:
    """A few cases that between them must notice every fault."""
    small = Case(q_heads=3, heads_per_thread=2, tokens=9, layout_out="BSNH")
    return [
        small,
        Case(interleaved=True),
        Case(head_dim=80, rotary_dim=32, proportional=True),
        Case(strays="near", tokens=30),
        Case(strays="near", tokens=30, positions="int32", batch=1),
        Case(strays="wrapped", tokens=30),
        Case(sections=(8, 12, 12), strays="near", tokens=30),
        Case(sections=(8, 12, 12), tokens=9),
        Case(sections=(20, 6, 6), mixed=True),
        Case(norm="qk", rotary_dim=32),
        Case(layout_out="BNSH", q_heads=7),
    ]


def test_the_cases_that_notice_faults_are_right_without_one() -> None:
    kernel = build()
    assert {case: wrong for case in noticing() if (wrong := outcome(case, kernel))} == {}


# A faulty kernel is built for bf16 alone, in a third of the time.
OTHER_TYPES = (
    "        case Type::kFloat32: return detail::dispatch_norm<float>(plan, run);\n"
    "        case Type::kFloat16: return detail::dispatch_norm<Float16>(plan, run);\n"
)


@pytest.mark.parametrize("fault", swept(FAULTS, ["the sine's sign"]))
def test_a_planted_fault_is_noticed(fault: str) -> None:
    name, right, wrong = FAULTS[fault]
    text = binding.sources()
    assert right in text[name] and OTHER_TYPES in text["src/rope_plan.h"]
    text[name] = text[name].replace(right, wrong, 1)
    text["src/rope_plan.h"] = text["src/rope_plan.h"].replace(OTHER_TYPES, "")
    faulty = build(text=text, flags=("-O0", "-Wno-error"))
    assert any(outcome(case, faulty) for case in noticing())
