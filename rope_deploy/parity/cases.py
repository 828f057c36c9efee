"""The cases of a check: which calls prove that a graph and its model agree. Made from the manifest alone.

A case is a prompt of one or more rows and the calls that follow it. Its id is stable and seeds its random numbers, so
that a case that failed can be run again by itself. `case_inputs.py` makes the arrays of its calls.

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
from rope_deploy.rope import RopeSpec

Set = Literal["quick", "full"]
Padding = Literal["none", "left", "right", "mixed"]
Positions = Literal["count", "stride", "repeat", "by-row", "shuffled", "prompt-counts", "out-of-range"]

PROMPT, STEPS, LONG, IMPLICIT = 9, 3, 160, 300
STRIDE, REPEATS = 3, 2
INDEXERS = ("indexer", "index")  # parts of a cache that belong to an indexer, which selects the keys of attention
ATTENTION = ("key", "value")  # parts of a cache that belong to attention itself

# Against the model as transformers runs it: what we patch in a model is on both sides of every other comparison.
UNTOUCHED = ("untouched-prefill", "untouched-left-padded", "untouched-decode")
UNTOUCHED_CHUNKED = "untouched-chunked"
# Enough to meet every named mistake, also in a graph whose limits exclude some of these cases.
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
QUICK_WITHOUT_A_RULE = ("prefill", "offset-half")  # the same tokens at other positions
QUICK_AT_A_THRESHOLD = ("below-", "beyond-", "decode-across-")


@dataclass(frozen=True)
class Case:
    """One row per entry of `lengths` (its real tokens in the prompt); `later` holds the tokens of each further call.

    `padding` "mixed" pads the first row on the left, the second on the right, and so on. `positions` of the tokens:
    "count" one after another from `start` on, "stride" every third one, "repeat" two tokens at each, "by-row" counting
    from a start of each row's own, spread over the table, "shuffled" without order somewhere in the table,
    "prompt-counts" without order after a prompt that counts, "out-of-range" the last token at `start`.
    `refusal` is the error that the runtime must raise; `skipped` is the declared limit that makes the case impossible.
    `untouched`: the reference is the model as transformers runs it, with its own cache and masks. It is fed the
    positions that `generate` makes after a past, so tokens count from 0; the graph continues with its own cache.
    """

    id: str
    detail: str
    lengths: tuple[int, ...]
    later: tuple[int, ...] = ()
    padding: Padding = "none"
    positions: Positions = "count"
    start: int = 0
    refusal: type[UsageError] | None = None
    skipped: str = ""
    untouched: bool = False

    @property
    def tokens(self) -> int:
        """The tokens of one row, over all calls."""
        return max(self.lengths) + sum(self.later)


def cases_for(manifest: Manifest, which: Set = "full") -> tuple[Case, ...] | tuple[TowerCase, ...]:
    """Every case of a set for this graph: those it must pass, those beyond its limits (skipped), those it must refuse.

    A tower has few cases of its own, which are both sets.
    """
    if manifest.task == "tower":
        return tower_cases(manifest)
    rows, has_positions = manifest.max_position, any(info.name == "position_ids" for info in manifest.inputs)
    prompt = max(1, min(PROMPT, rows - STEPS))
    steps = min(STEPS, rows - prompt) if manifest.cache else 0
    found = list(_prompts(prompt))
    if not any(info.name.rpartition(".")[2] in INDEXERS for info in manifest.inputs):
        found.append(_long(rows, has_positions))
    found += _positions(prompt, rows) if has_positions else []
    found += _continued(prompt, steps, rows)
    found += _untouched(manifest, prompt, steps)
    if has_positions:
        found += _offsets(manifest, prompt, steps)
        found += _thresholds(manifest, prompt)
    cases = [_within(case, manifest.limits) for case in found if _last_position(case) < rows]
    if which == "quick":
        without_rule = any(not rotation.spec for rotation in manifest.rotations)
        cases = [case for case in cases if _is_quick(case) or (without_rule and case.id in QUICK_WITHOUT_A_RULE)]
    return (*cases, *_refusals(manifest, prompt, has_positions))


def _is_quick(case: Case) -> bool:
    return case.id in QUICK or case.id.startswith(QUICK_AT_A_THRESHOLD)


def _last_position(case: Case) -> int:
    """The last position of a case whose positions do not depend on the size of the table."""
    match case.positions:
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


def _positions(prompt: int, rows: int) -> Iterator[Case]:
    last = rows - prompt
    yield Case("offset-half", "positions count from the middle of the table", (prompt,), start=min(rows // 2, last))
    yield Case("offset-end", "positions count up to the last one", (prompt,) * 2, start=last)
    yield Case("last-position", "one token at the last position", (1,), start=rows - 1)
    strided = min(prompt, (rows + STRIDE - 1) // STRIDE)
    yield Case("strided", "every third position", (strided,), positions="stride")
    yield Case("repeated", "two tokens at every position", (prompt,) * 2, positions="repeat")
    yield Case("offset-by-row", "five rows, from the first position to the last", (prompt,) * 5, positions="by-row")
    yield Case("shuffled", "positions without order, different in every row", (prompt,) * 3, positions="shuffled")


def _long(rows: int, has_positions: bool) -> Case:
    """A long prompt: most cases are short, and miss what begins further on, e.g. a sliding window of attention.

    Left out for attention to the few tokens that an indexer scores highest: of two scores that differ by less than
    rounding each runtime selects its own, and among hundreds of rows there is such a pair.
    """
    tokens = min(rows, LONG if has_positions else IMPLICIT)
    how = "one after another" if has_positions else "at positions the graph counts by itself"
    return Case("long", f"{tokens} tokens {how}", (tokens,))


def _chunks(prompt: int, steps: int, rows: int, start: int = 0) -> tuple[int, ...]:
    """The further pieces of a prompt: two of several tokens where there is room."""
    pieces = tuple(n for n in (steps, prompt // 2) if n)
    return pieces if start + prompt + sum(pieces) <= rows else (1,) * steps


def _continued(prompt: int, steps: int, rows: int) -> Iterator[Case]:
    """Cases of several calls, which need a cache."""
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
    yield Case("decode-strided", detail, (prompt,), ones, positions="stride")
    detail = "token by token, two at every position"
    yield Case("decode-repeated", detail, (prompt,), ones, positions="repeat")
    detail = "token by token at positions without order"
    yield Case("decode-shuffled", detail, (prompt,) * 2, ones, positions="prompt-counts")
    detail = "a second piece at positions without order"
    yield Case("chunked-prefill-shuffled", detail, (prompt,), chunks, positions="prompt-counts")


def _untouched(manifest: Manifest, prompt: int, steps: int) -> Iterator[Case]:
    prefill, left, decode = UNTOUCHED
    detail = "two prompts, one padded on the right, against the model as transformers runs it"
    yield Case(prefill, detail, (prompt, max(1, prompt - 4)), padding="right", untouched=True)
    detail = "two prompts, one padded on the left, against the model as transformers runs it"
    yield Case(left, detail, (prompt, max(1, prompt - 4)), padding="left", untouched=True)
    if steps:
        detail = "a token after a prompt, against the model as transformers runs it"
        yield Case(decode, detail, (prompt,), (1,), untouched=True)
    # A call of several tokens after a past begins the states of a recurrence anew in transformers itself.
    if steps > 1 and all(name.rpartition(".")[2] in ATTENTION for name in manifest.past_names):
        detail = f"{steps} tokens at once after a prompt, against the model as transformers runs it"
        yield Case(UNTOUCHED_CHUNKED, detail, (prompt,), (steps,), untouched=True)


def _offsets(manifest: Manifest, prompt: int, steps: int) -> Iterator[Case]:
    """A prompt, a prompt in pieces and decode from the second position, and around each original context."""
    contexts = sorted({context for context, _ in _original_contexts(manifest)})
    for start in dict.fromkeys([1, *(context + shift for context in contexts for shift in (-1, 0, 1))]):
        yield Case(f"prefill-at-{start}", f"a prompt from position {start}", (prompt,), start=start)
        if steps:
            chunks = _chunks(prompt, steps, manifest.max_position, start)
            detail = f"a prompt in pieces from position {start}"
            yield Case(f"chunked-prefill-at-{start}", detail, (prompt,), chunks, start=start)
            detail = f"token by token after a prompt from position {start}"
            yield Case(f"decode-at-{start}", detail, (prompt,), (1,) * steps, start=start)


def _original_contexts(manifest: Manifest) -> Iterator[tuple[int, bool]]:
    """The original context of each rotation, and whether its rule changes with the length there."""
    for rotation in manifest.rotations:
        if rotation.spec:
            spec = RopeSpec.from_dict(rotation.spec)
            if spec.original_max_position is not None:
                yield spec.original_max_position, spec.depends_on_length


def _thresholds(manifest: Manifest, prompt: int) -> Iterator[Case]:
    """Around the length at which a rule that depends on the length (dynamic NTK, LongRoPE) changes its frequencies."""
    for threshold in sorted({context for context, depends in _original_contexts(manifest) if depends}):
        if threshold < prompt:
            continue
        below, around = threshold - prompt, threshold - prompt // 2
        yield Case(f"below-{threshold}", "up to the last length of the short rule", (prompt,), start=below)
        yield Case(f"beyond-{threshold}", "the first lengths of the long rule", (prompt,) * 2, start=threshold)
        yield Case(f"across-{threshold}", "a prompt that crosses from one rule to the other", (prompt,), start=around)
        if manifest.cache:
            detail = "decode steps that cross from one rule to the other"
            yield Case(f"decode-across-{threshold}", detail, (prompt - 1,), (1,) * STEPS, start=below)
            detail = "a second piece that crosses from one rule to the other"
            yield Case(f"chunked-across-{threshold}", detail, (prompt - 1,), (STEPS, STEPS), start=below)


def _within(case: Case, limits: Limits) -> Case:
    """`case`, marked as skipped if it would break a limit that the manifest declares."""
    return replace(case, skipped=broken_limit(case, limits))


def broken_limit(case: Case, limits: Limits) -> str:
    """The sentence about the declared limit that `case` would break; "" if none."""
    why = f" ({limits.note})" if limits.note else ""
    if limits.tokens is not None and case.tokens > limits.tokens:
        return f"The manifest declares: at most {limits.tokens} tokens."
    if case.padding in ("left", "mixed") and not limits.left_padding:
        return f"The manifest declares: no left padding{why}."
    if case.padding in ("right", "mixed") and case.later and not limits.padded_past:
        return f"The manifest declares: no padding in the past of a sliding window{why}."
    if len(case.lengths) > 1 and max(case.later, default=0) > 1 and not limits.chunked_prefill_batch:
        return f"The manifest declares: no chunked prefill at batch > 1{why}."
    if case.positions in ("stride", "repeat", "by-row", "shuffled") and not limits.prompt_positions:
        return f"The manifest declares: the positions of a first prompt count up by one{why}."
    return ""


def _refusals(manifest: Manifest, prompt: int, has_positions: bool) -> Iterator[Case]:
    limits, ragged = manifest.limits, (prompt, max(1, prompt // 3))
    if has_positions:
        beyond = Case("refuses-beyond-table", "a position beyond the table", (prompt,), positions="out-of-range")
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
        yield Case("refuses-longer", detail, (limits.tokens + 1,), positions="repeat", refusal=UsageError)
    if not limits.left_padding and prompt > 1:
        detail = "left padding, which the manifest excludes"
        yield Case("refuses-left-padding", detail, ragged, padding="left", refusal=UsageError)
    if not limits.padded_past and manifest.cache and prompt > 1:
        detail = "decode after right padding, which the manifest excludes"
        yield Case("refuses-padded-past", detail, ragged, (1,), "right", refusal=UsageError)
    if not limits.chunked_prefill_batch and manifest.cache:
        detail = "chunked prefill at batch 2, which the manifest excludes"
        yield Case("refuses-chunked-batch", detail, (prompt,) * 2, (2,), refusal=UsageError)
    if not limits.prompt_positions and has_positions and prompt > 1:
        detail = "a first prompt at every third position, which the manifest excludes"
        tokens = min(prompt, (manifest.max_position + STRIDE - 1) // STRIDE)
        yield Case("refuses-strided-prompt", detail, (tokens,), positions="stride", refusal=UsageError)
