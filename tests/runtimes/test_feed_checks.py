from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.artifact import Limits
from rope_deploy.errors import PositionOutOfRange, UsageError
from rope_deploy.runtimes import check_feeds, empty_past
from tests.runtimes.toy import FUSED_LIMITS, ROWS, VOCAB, write_toy


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("feeds") / "toy")


def feeds_for(manifest, mask, *, past=0, positions=None):
    mask = np.array(mask)
    batch, total = mask.shape
    cache = {
        n: np.zeros((batch, v.shape[1], past, v.shape[3]), v.dtype) for n, v in empty_past(manifest, batch).items()
    }
    new = np.arange(past, total)[None].repeat(batch, 0) if positions is None else np.array(positions)
    return {"input_ids": np.zeros((batch, total - past), int), "attention_mask": mask, "position_ids": new, **cache}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.pop("position_ids"), "missing position_ids"),
        (lambda f: f.update(token_type_ids=f["input_ids"]), "unexpected token_type_ids"),
        (lambda f: f.update(input_ids=f["input_ids"].astype(np.int32)), "input_ids is int32"),
        (lambda f: f.update(input_ids=f["input_ids"][0]), r"input_ids has shape \[4\]"),
        (
            lambda f: f.update(position_ids=f["position_ids"][:, :3]),
            r"\[2, 3\](.|\n)*sequence = 4",
        ),
        (lambda f: f.update({"past_key_values.1.key": f["past_key_values.1.key"][:, :1]}), "past_key_values.1.key has"),
        (lambda f: f.update(attention_mask=np.ones((2, 3), int)), r"attention_mask has shape \[2, 3\](.|\n)*\[2, 4\]"),
        (lambda f: f.update(attention_mask=f["attention_mask"] * 2), "other than 0 and 1"),
        (lambda f: f.update(input_ids=f["input_ids"] + VOCAB), rf"= {VOCAB} is no token"),
        (lambda f: f.update(input_ids=f["input_ids"] - 1), "= -1 is no token"),
    ],
)
def test_ill_formed_feeds_are_refused_with_the_reason(manifest, change, says):
    feeds = feeds_for(manifest, np.ones((2, 4), int))
    check_feeds(manifest, feeds)
    change(feeds)
    with pytest.raises(UsageError, match=says):
        check_feeds(manifest, feeds)


def test_no_tokens_are_refused(manifest):
    with pytest.raises(UsageError, match="holds no token"):
        check_feeds(manifest, feeds_for(manifest, np.ones((1, 0), int)))


@pytest.mark.parametrize("position", [-1, ROWS, ROWS + 7])
def test_positions_outside_the_table_are_refused(manifest, position):
    with pytest.raises(PositionOutOfRange, match=rf"\[0, 1\] = {position} \(batch 0, token 1\)"):
        check_feeds(manifest, feeds_for(manifest, [[1, 1]], positions=[[0, position]]))


def test_without_position_ids_the_length_is_the_bound(manifest):
    implicit = replace(
        manifest, inputs=tuple(i for i in manifest.inputs if i.name in ("input_ids", "attention_mask")), cache=False
    )
    feeds = {"input_ids": np.zeros((1, ROWS), int), "attention_mask": np.ones((1, ROWS), int)}
    check_feeds(implicit, feeds)
    with pytest.raises(PositionOutOfRange, match=f"--max-position {ROWS + 1}"):
        check_feeds(implicit, {n: np.pad(v, ((0, 0), (0, 1)), mode="edge") for n, v in feeds.items()})


REFUSED_WHEN_FUSED = {
    "left padding": ([[1, 1, 1], [0, 1, 1]], 0, [[0, 1, 2], [0, 0, 1]]),
    "left padding in the past": ([[0, 1, 1, 1]], 3, [[2]]),
    "a hole in the prompt": ([[1, 0, 1]], 0, [[0, 0, 1]]),
    "padding as a new token": ([[1, 1, 0], [1, 1, 1]], 2, [[2], [2]]),
    "a chunk at batch 2": ([[1, 1, 1, 1]] * 2, 2, [[2, 3]] * 2),
    "a strided prompt": ([[1, 1, 1]], 0, [[0, 2, 4]]),
    "a prompt with an offset of its own in one row": ([[1, 1]] * 2, 0, [[0, 1], [5, 6]]),
}
ACCEPTED_WHEN_FUSED = {
    "right padding": ([[1, 1, 1], [1, 1, 0]], 0, [[0, 1, 2], [0, 1, 1]]),
    "decode after right padding": ([[1, 1, 1, 1], [1, 1, 0, 1]], 3, [[3], [2]]),
    "a chunk at batch 1": ([[1, 1, 1, 1]], 2, [[2, 3]]),
    "a strided chunk": ([[1, 1, 1, 1]], 2, [[9, 5]]),
    "one offset for all": ([[1, 1]] * 2, 0, [[5, 6]] * 2),
}


@pytest.mark.parametrize("case", REFUSED_WHEN_FUSED)
def test_fused_attention_refuses(manifest, case):
    mask, past, positions = REFUSED_WHEN_FUSED[case]
    feeds = feeds_for(manifest, mask, past=past, positions=positions)
    check_feeds(manifest, feeds)
    with pytest.raises(UsageError, match="--no-fused-attention"):
        check_feeds(replace(manifest, limits=FUSED_LIMITS), feeds)


def test_fused_window_refuses_padding_in_the_past(manifest):
    padded, whole = ([[1, 1, 1, 1], [1, 1, 0, 1]], [[1, 1, 1, 1]] * 2)
    windowed = replace(manifest, limits=replace(FUSED_LIMITS, padded_past=False))
    check_feeds(windowed, feeds_for(manifest, whole, past=3))
    with pytest.raises(UsageError, match=r"Row 1(.|\n)*--no-fused-attention"):
        check_feeds(windowed, feeds_for(manifest, padded, past=3))


@pytest.mark.parametrize("case", ACCEPTED_WHEN_FUSED)
def test_fused_attention_accepts(manifest, case):
    mask, past, positions = ACCEPTED_WHEN_FUSED[case]
    check_feeds(replace(manifest, limits=FUSED_LIMITS), feeds_for(manifest, mask, past=past, positions=positions))


def test_limits_default_to_none_at_all():
    assert Limits() == Limits(left_padding=True, chunked_prefill_batch=True, prompt_positions=True, padded_past=True)


def test_more_tokens_than_the_graph_is_for_are_refused(manifest):
    limited = replace(manifest, limits=Limits(tokens=4))
    check_feeds(limited, feeds_for(limited, np.ones((1, 4), int), past=2))
    longer = feeds_for(limited, np.ones((1, 5), int), past=2, positions=[[0, 1, 1]])
    check_feeds(manifest, longer)
    with pytest.raises(UsageError, match="5 tokens are more"):
        check_feeds(limited, longer)
