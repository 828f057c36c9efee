"""Which calls prove that a graph and its model agree, made from the manifest alone.

A case is a prompt of one or more rows and the steps that follow it. Its id is stable and seeds its random numbers,
so that a case seen to fail can be run again by itself.

Positions matter most. A uniform offset changes almost nothing at the logits (scores depend on differences), so
every graph also sees strides, disorder, an offset of its own in each row, and the last row of its table. Tokens of
one row stay within a few dozen positions: torn apart over thousands, a real model is so ill-conditioned that
PyTorch's own float32 is off by more than any tolerance worth having (4e-3 at SmolLM2's logits).

Two sets. The full one tries prefill, chunks and decode from every position at which something changes: the first
two, one before, at and after the context a model was made for, and the last. The quick one keeps the few cases that
between them still meet every way to go wrong that has a name: each has several rows, steps or positions far apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from rope_deploy.artifact import Limits, Manifest
from rope_deploy.errors import PositionOutOfRange, UsageError
from rope_deploy.parity.towers.cases import TowerCase, tower_cases

Set = Literal["quick", "full"]
Padding = Literal["none", "left", "right", "mixed"]
Placing = Literal["count", "stride", "repeat", "by-row", "shuffled", "prompt-counts", "out-of-range"]

PROMPT, STEPS, LONG, IMPLICIT = 9, 3, 160, 300
STRIDE, REPEATS = 3, 2
PICKING = ("indexer", "index")  # parts of a cache that belong to what picks the tokens attention reads

# Against the model as transformers runs it: whatever we replace in a model stands on both sides of every other case.
UNTOUCHED = ("untouched-prefill", "untouched-left-padded", "untouched-decode")
# Enough to meet every named mistake. In a graph whose limits exclude some of them, the others take their place.
QUICK = (
    "prefill-right-padded",
    "prefill-left-padded",
    "offset-by-row",
    "shuffled",
    "long",
    "chunked-prefill-shuffled",
    "decode-mixed-padded",
    "decode-right-padded",
    "decode-end",
    "decode-shuffled",
    *UNTOUCHED,
)
QUICK_WITHOUT_A_RULE = ("prefill", "offset-half")  # the same words twice, elsewhere
QUICK_AT_A_THRESHOLD = ("below-", "beyond-", "decode-across-")


@dataclass(frozen=True)
class Case:
    """One row per entry of `lengths` (its real tokens in the prompt); `later` holds the tokens of each further call.

    `padding` "mixed" pads the first row on the left, the second on the right, and so on. `placing` says where tokens
    stand: "count" one after another from `start` on, "stride" every third position, "repeat" two tokens at each,
    "by-row" counting from a start of each row's own, spread over the table, "shuffled" without order somewhere in
    the table, "prompt-counts" without order after a prompt that counts, "out-of-range" the last one at `start`.
    `refusal` is the error the runtime must answer with; `skipped` the declared limit that makes the case impossible.
    `untouched`: the reference is the model as transformers runs it, with its own cache and masks. It is told the
    positions that generate states after a past, so tokens count from 0; the graph goes on from its own cache.
    """

    id: str
    detail: str
    lengths: tuple[int, ...]
    later: tuple[int, ...] = ()
    padding: Padding = "none"
    placing: Placing = "count"
    start: int = 0
    refusal: type[UsageError] | None = None
    skipped: str = ""
    untouched: bool = False

    @property
    def tokens(self) -> int:
        """In one row, over all calls."""
        return max(self.lengths) + sum(self.later)


def cases_for(manifest: Manifest, which: Set = "full") -> tuple[Case, ...] | tuple[TowerCase, ...]:
    """Every case of a set that this graph must pass, what it cannot do marked as skipped, and what it must refuse.

    A tower has few cases, of its own, and they are both sets.
    """
    if manifest.task == "tower":
        return tower_cases(manifest)
    rows, placed = manifest.max_position, any(info.name == "position_ids" for info in manifest.inputs)
    prompt = max(1, min(PROMPT, rows - STEPS))
    steps = min(STEPS, rows - prompt) if manifest.cache else 0
    found = list(_prompts(prompt))
    if not any(info.name.rpartition(".")[2] in PICKING for info in manifest.inputs):
        found.append(_long(rows, placed))
    found += _placements(prompt, rows) if placed else []
    found += _continued(prompt, steps, rows)
    found += _untouched(prompt, steps)
    if placed:
        found += _offsets(manifest, prompt, steps)
        found += _thresholds(manifest, prompt)
    cases = [_within(case, manifest.limits) for case in found if _reach(case) < rows]
    if which == "quick":
        blind = any(not rotation.spec for rotation in manifest.rotations)
        cases = [case for case in cases if _is_quick(case) or (blind and case.id in QUICK_WITHOUT_A_RULE)]
    return (*cases, *_refusals(manifest, prompt, placed))


def _is_quick(case: Case) -> bool:
    return case.id in QUICK or case.id.startswith(QUICK_AT_A_THRESHOLD)


def _reach(case: Case) -> int:
    """The last position of a case whose positions do not depend on the size of the table."""
    match case.placing:
        case "count":
            return case.start + case.tokens - 1
        case "stride":
            return case.start + STRIDE * (case.tokens - 1)
        case "repeat":
            return case.start + (case.tokens - 1) // REPEATS
    return 0


def _prompts(prompt: int) -> Iterator[Case]:
    ragged = (prompt, max(1, prompt - 4), max(1, prompt // 3))
    yield Case("prefill", "one prompt", (prompt,))
    yield Case("single-token", "one token, nothing before it", (1,))
    yield Case("prefill-batch", "three prompts of one length", (prompt,) * 3)
    yield Case("prefill-right-padded", "three prompts, padded on the right", ragged, padding="right")
    yield Case("prefill-left-padded", "three prompts, padded on the left", ragged, padding="left")
    mixed = ragged[::-1]
    yield Case("prefill-mixed-padded", "three prompts, padded left and right by turns", mixed, padding="mixed")


def _placements(prompt: int, rows: int) -> Iterator[Case]:
    last = rows - prompt
    yield Case("offset-half", "positions count from the middle of the table", (prompt,), start=min(rows // 2, last))
    yield Case("offset-end", "positions count up to the last one", (prompt,) * 2, start=last)
    yield Case("last-position", "one token at the last position", (1,), start=rows - 1)
    strided = min(prompt, (rows + STRIDE - 1) // STRIDE)
    yield Case("strided", "every third position", (strided,), placing="stride")
    yield Case("repeated", "two tokens at every position", (prompt,) * 2, placing="repeat")
    yield Case("offset-by-row", "five rows, from the first position to the last", (prompt,) * 5, placing="by-row")
    yield Case("shuffled", "positions without order, different in every row", (prompt,) * 3, placing="shuffled")


def _long(rows: int, placed: bool) -> Case:
    """Most cases are short, and see nothing of what begins further on: a window of attention, say.

    Not for attention to the few tokens that an indexer scores highest: among scores that differ by less than rounding,
    each runtime chooses its own, and a choice in hundreds of rows falls on such a pair.
    """
    tokens = min(rows, LONG if placed else IMPLICIT)
    detail = (
        f"{tokens} tokens one after another" if placed else f"{tokens} tokens at positions the graph counts by itself"
    )
    return Case("long", detail, (tokens,))


def _chunks(prompt: int, steps: int, rows: int, start: int = 0) -> tuple[int, ...]:
    """A prompt's further pieces: two of several tokens where there is room."""
    pieces = tuple(n for n in (steps, prompt // 2) if n)
    return pieces if start + prompt + sum(pieces) <= rows else (1,) * steps


def _continued(prompt: int, steps: int, rows: int) -> Iterator[Case]:
    """What needs a cache."""
    if not steps:
        return
    ones, ragged = (1,) * steps, (prompt, max(1, prompt - 4), max(1, prompt // 3))
    chunks = _chunks(prompt, steps, rows)
    yield Case("chunked-prefill", "a prompt in pieces", (prompt,), chunks)
    yield Case("chunked-prefill-batch", "two prompts in pieces", (prompt,) * 2, chunks)
    yield Case("decode", "token by token after a prompt", (prompt,), ones)
    yield Case("decode-batch", "three rows token by token", (prompt,) * 3, ones)
    yield Case("decode-right-padded", "token by token after prompts padded on the right", ragged, ones, "right")
    yield Case("decode-left-padded", "token by token after prompts padded on the left", ragged, ones, "left")
    mixed, detail = ragged[::-1], "token by token after prompts padded left and right by turns"
    yield Case("decode-mixed-padded", detail, mixed, ones, "mixed")
    yield Case("decode-end", "token by token up to the last position", (prompt,), ones, start=rows - prompt - steps)
    start = rows - prompt - sum(chunks)
    yield Case("chunked-prefill-end", "a prompt in pieces up to the last position", (prompt,), chunks, start=start)
    detail = "token by token at every third position"
    yield Case("decode-strided", detail, (prompt,), ones, placing="stride")
    detail = "token by token, two at every position"
    yield Case("decode-repeated", detail, (prompt,), ones, placing="repeat")
    detail = "token by token at positions without order"
    yield Case("decode-shuffled", detail, (prompt,) * 2, ones, placing="prompt-counts")
    detail = "a second piece at positions without order"
    yield Case("chunked-prefill-shuffled", detail, (prompt,), chunks, placing="prompt-counts")


def _untouched(prompt: int, steps: int) -> Iterator[Case]:
    prefill, left, decode = UNTOUCHED
    detail = "two prompts, one padded on the right, against the model as transformers runs it"
    yield Case(prefill, detail, (prompt, max(1, prompt - 4)), padding="right", untouched=True)
    lengths, later = (prompt, max(1, prompt - 4)), (1,) * min(1, steps)
    detail = "two prompts, one padded on the left, and a token after them, against the model as transformers runs it"
    yield Case(left, detail, lengths, later, padding="left", untouched=True)
    if steps:
        detail = "a token after a prompt, against the model as transformers runs it"
        yield Case(decode, detail, (prompt,), (1,), untouched=True)


def _offsets(manifest: Manifest, prompt: int, steps: int) -> Iterator[Case]:
    """A prompt, a prompt in pieces and decode from the second position, and around each original context."""
    contexts = sorted({turn for turn, _ in _turns(manifest)})
    for start in dict.fromkeys([1, *(turn + shift for turn in contexts for shift in (-1, 0, 1))]):
        yield Case(f"prefill-at-{start}", f"a prompt from position {start}", (prompt,), start=start)
        if steps:
            chunks = _chunks(prompt, steps, manifest.max_position, start)
            detail = f"a prompt in pieces from position {start}"
            yield Case(f"chunked-prefill-at-{start}", detail, (prompt,), chunks, start=start)
            detail = f"token by token after a prompt from position {start}"
            yield Case(f"decode-at-{start}", detail, (prompt,), (1,) * steps, start=start)


def _turns(manifest: Manifest) -> Iterator[tuple[int, bool]]:
    """The contexts the rotations were first made for, and whether the rule changes with the length there."""
    from rope_deploy.rope import RopeSpec

    for rotation in manifest.rotations:
        if rotation.spec:
            spec = RopeSpec.from_dict(rotation.spec)
            if spec.original_max_position is not None:
                yield spec.original_max_position, spec.depends_on_length


def _thresholds(manifest: Manifest, prompt: int) -> Iterator[Case]:
    """Around the length at which a rule of the length (dynamic NTK, LongRoPE) changes its frequencies."""
    for turn in sorted({turn for turn, depends in _turns(manifest) if depends}):
        if turn < prompt:
            continue
        below, around = turn - prompt, turn - prompt // 2
        yield Case(f"below-{turn}", "up to the last length of the short rule", (prompt,), start=below)
        yield Case(f"beyond-{turn}", "the first lengths of the long rule", (prompt,) * 2, start=turn)
        yield Case(f"across-{turn}", "a prompt that crosses from one rule to the other", (prompt,), start=around)
        if manifest.cache:
            detail = "decode steps that cross from one rule to the other"
            yield Case(f"decode-across-{turn}", detail, (prompt - 1,), (1,) * STEPS, start=below)
            detail = "a second piece that crosses from one rule to the other"
            yield Case(f"chunked-across-{turn}", detail, (prompt - 1,), (STEPS, STEPS), start=below)


def _within(case: Case, limits: Limits) -> Case:
    """`case`, or the same case marked as skipped where the manifest declares that the graph cannot do it."""
    return replace(case, skipped=broken_limit(case, limits))


def broken_limit(case: Case, limits: Limits) -> str:
    """The declared limit that `case` would break, in words; "" if none."""
    why = f" ({limits.note})" if limits.note else ""
    if limits.tokens is not None and case.tokens > limits.tokens:
        return f"The manifest declares: at most {limits.tokens} tokens."
    if case.padding in ("left", "mixed") and not limits.left_padding:
        return f"The manifest declares: no left padding{why}."
    if case.padding in ("right", "mixed") and case.later and not limits.padded_past:
        return f"The manifest declares: no padding in the past of a sliding window{why}."
    if len(case.lengths) > 1 and max(case.later, default=0) > 1 and not limits.chunked_prefill_batch:
        return f"The manifest declares: no chunked prefill at batch > 1{why}."
    if case.placing in ("stride", "repeat", "by-row", "shuffled") and not limits.prompt_positions:
        return f"The manifest declares: the positions of a first prompt count up by one{why}."
    return ""


def _refusals(manifest: Manifest, prompt: int, placed: bool) -> Iterator[Case]:
    limits, ragged = manifest.limits, (prompt, max(1, prompt // 3))
    if placed:
        beyond = Case("refuses-beyond-table", "a position beyond the table", (prompt,), placing="out-of-range")
        yield replace(beyond, start=manifest.max_position, refusal=PositionOutOfRange)
        detail = "the second position beyond the table"
        yield replace(
            beyond,
            id="refuses-further-beyond",
            detail=detail,
            start=manifest.max_position + 1,
            refusal=PositionOutOfRange,
        )
        yield replace(beyond, id="refuses-negative", detail="a position below 0", start=-1, refusal=PositionOutOfRange)
        # Counted from the end, −1 is the row behind the table, and −2 its last position.
        detail = "the second position below 0"
        yield replace(beyond, id="refuses-further-below", detail=detail, start=-2, refusal=PositionOutOfRange)
    else:
        tokens = (manifest.max_position + 1,)
        yield Case("refuses-beyond-table", "more tokens than positions", tokens, refusal=PositionOutOfRange)
    if limits.tokens is not None:
        detail = "more tokens than the manifest declares"
        yield Case("refuses-longer", detail, (limits.tokens + 1,), placing="repeat", refusal=UsageError)
    if not limits.left_padding and prompt > 1:
        detail = "left padding, which the manifest excludes"
        yield Case("refuses-left-padding", detail, ragged, padding="left", refusal=UsageError)
    if not limits.padded_past and manifest.cache and prompt > 1:
        detail = "decode after right padding, which the manifest excludes"
        yield Case("refuses-padded-past", detail, ragged, (1,), "right", refusal=UsageError)
    if not limits.chunked_prefill_batch and manifest.cache:
        detail = "chunked prefill at batch 2, which the manifest excludes"
        yield Case("refuses-chunked-batch", detail, (prompt,) * 2, (2,), refusal=UsageError)
    if not limits.prompt_positions and placed and prompt > 1:
        detail = "a first prompt at every third position, which the manifest excludes"
        tokens = min(prompt, (manifest.max_position + STRIDE - 1) // STRIDE)
        yield Case("refuses-strided-prompt", detail, (tokens,), placing="stride", refusal=UsageError)
