from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.artifact import Limits, Rotation, TensorInfo
from rope_deploy.parity import cases_for
from rope_deploy.parity.case_inputs import calls_for
from rope_deploy.parity.cases import UNTOUCHED_CHUNKED
from rope_deploy.rope import specs_from_config
from tests.runtimes.toy import FUSED_LIMITS, ROWS, VOCAB, H, write_toy


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("cases") / "toy")


def ids(manifest):
    return [case.id for case in cases_for(manifest)]


def placed(case_id, manifest):
    """Real positions of one case, by row."""
    case = next(case for case in cases_for(manifest) if case.id == case_id)
    calls = list(calls_for(case, manifest))
    rows = [[] for _ in case.lengths]
    for call in calls:
        for row, (positions, real) in enumerate(zip(call.position_ids, call.real)):
            rows[row] += positions[real].tolist()
    return rows


def test_ids_are_unique(manifest):
    assert len(set(ids(manifest))) == len(ids(manifest))


def test_cases_are_the_same_every_time(manifest):
    for case in cases_for(manifest):
        for one, other in zip(calls_for(case, manifest), calls_for(case, manifest), strict=True):
            for name in ("input_ids", "position_ids", "attention_mask"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_another_seed_gives_other_tokens(manifest):
    case = cases_for(manifest)[0]
    first, same, other = (next(calls_for(case, manifest, seed)).input_ids.tolist() for seed in (0, 0, 1))
    assert first == same != other


def test_parity_cases_stay_inside_the_table_and_the_vocabulary(manifest):
    for case in cases_for(manifest):
        for call in calls_for(case, manifest):
            if case.refusal is None:
                assert call.position_ids.min() >= 0 and call.position_ids.max() < ROWS, case
            assert call.input_ids.min() >= 0 and call.input_ids.max() < VOCAB


def test_last_position_is_reached_by_prompt_single_token_and_decode(manifest):
    assert placed("offset-end", manifest)[0][-1] == ROWS - 1
    assert placed("last-position", manifest) == [[ROWS - 1]]
    assert placed("decode-end", manifest)[0] == list(range(ROWS - 12, ROWS))
    first, *_, last = placed("offset-by-row", manifest)
    assert first[0] == 0 and last[-1] == ROWS - 1


def test_positions_are_not_only_uniform_offsets(manifest):
    """An offset of all positions hardly moves the logits: strides and disorder do."""
    assert np.unique(np.diff(placed("strided", manifest)[0])).tolist() == [3]
    for case in ("shuffled", "decode-shuffled", "chunked-prefill-shuffled"):
        rows = placed(case, manifest)
        assert any((np.diff(row) < 0).any() for row in rows), case
    first, second, third = placed("shuffled", manifest)
    assert first != second != third


def test_two_tokens_may_share_a_position(manifest):
    for case in ("repeated", "decode-repeated"):
        assert placed(case, manifest)[0][:5] == [0, 0, 1, 1, 2], case


def test_every_form_starts_at_the_second_position_too_and_ends_at_the_last(manifest):
    for form in ("prefill", "chunked-prefill", "decode"):
        assert placed(f"{form}-at-1", manifest)[0][0] == 1
    for case in ("offset-end", "chunked-prefill-end", "decode-end"):
        assert placed(case, manifest)[0][-1] == ROWS - 1


def test_cases_that_begin_alike_begin_with_the_same_call(manifest):
    cases = {case.id: case for case in cases_for(manifest)}
    calls = [next(calls_for(cases[case], manifest, 3)) for case in ("prefill", "decode", "chunked-prefill")]
    for name in ("input_ids", "position_ids", "attention_mask"):
        assert len({getattr(call, name).tobytes() for call in calls}) == 1


def test_rows_differ_in_their_tokens_with_and_without_a_text(manifest):
    case = next(case for case in cases_for(manifest) if case.id == "prefill-batch")
    for text in ((), tuple(range(1, 60))):
        assert len({row.tobytes() for row in next(calls_for(case, manifest, 0, text)).input_ids}) == 3


def test_the_quick_set_is_a_part_of_the_full_one_that_keeps_every_refusal(manifest):
    for limits in (Limits(), FUSED_LIMITS):
        full, quick = (cases_for(replace(manifest, limits=limits), which) for which in ("full", "quick"))
        assert set(quick) < set(full) and len(quick) < len(full) / 2
        assert (len(quick), len(full)) == ((17, 38) if limits == Limits() else (20, 41)), "docs/parity.md states them"
        assert [case for case in quick if case.refusal] == [case for case in full if case.refusal]


def test_the_position_right_behind_the_table_and_the_next_are_refused(manifest):
    cases = {case.id: case for case in cases_for(manifest)}
    assert [cases[f"refuses-{which}"].start for which in ("beyond-table", "further-beyond")] == [ROWS, ROWS + 1]


def test_padded_rows_count_their_real_tokens_from_zero(manifest):
    for case in ("decode-left-padded", "decode-right-padded", "decode-mixed-padded"):
        for row in placed(case, manifest):
            assert row == list(range(len(row))), case


def test_padding_stands_where_the_name_says(manifest):
    cases = {case.id: case for case in cases_for(manifest)}
    left = next(calls_for(cases["prefill-left-padded"], manifest)).attention_mask
    right = next(calls_for(cases["prefill-right-padded"], manifest)).attention_mask
    assert left[:, -1].all() and not left[:, 0].all()
    assert right[:, 0].all() and not right[:, -1].all()
    mixed = next(calls_for(cases["prefill-mixed-padded"], manifest)).attention_mask
    assert (mixed[0, 0], mixed[0, -1], mixed[1, 0], mixed[1, -1]) == (0, 1, 1, 0)


def test_later_calls_see_the_whole_mask(manifest):
    case = next(case for case in cases_for(manifest) if case.id == "chunked-prefill")
    widths = [(call.tokens, call.attention_mask.shape[1]) for call in calls_for(case, manifest)]
    assert widths == [(9, 9), (3, 12), (4, 16)]


def test_several_tokens_follow_a_past_in_the_untouched_model_only_where_the_cache_is_keys_and_values(manifest):
    (case,) = (case for case in cases_for(manifest) if case.id == UNTOUCHED_CHUNKED)
    assert (case.lengths, case.later, case.padding, case.untouched) == ((9,), (3,), "none", True)
    assert UNTOUCHED_CHUNKED not in [case.id for case in cases_for(manifest, "quick")]
    assert UNTOUCHED_CHUNKED not in ids(replace(manifest, cache=False))
    for part in ("conv", "recurrent", "indexer"):
        state = TensorInfo(f"past_key_values.1.{part}", "float32", ("batch", 4, 4))
        assert UNTOUCHED_CHUNKED not in ids(replace(manifest, inputs=(*manifest.inputs, state)))


def test_graph_without_cache_has_no_later_calls(manifest):
    cacheless = replace(manifest, cache=False)
    assert not any(case.later for case in cases_for(cacheless))
    assert "offset-by-row" in ids(cacheless)


def test_graph_without_position_ids_is_tried_at_length(manifest):
    inputs = tuple(info for info in manifest.inputs if info.name in ("input_ids", "attention_mask"))
    encoder = replace(manifest, task="encoder", cache=False, inputs=inputs, max_position=512)
    cases = {case.id: case for case in cases_for(encoder)}
    assert cases["long"].lengths == (300,)
    assert cases["refuses-beyond-table"].lengths == (513,)
    assert not {"shuffled", "offset-by-row", "offset-end", "refuses-negative"} & set(cases)


def test_graph_that_counts_by_itself_counts_padding_too(manifest):
    implicit = replace(manifest, cache=False, inputs=manifest.inputs[:2])
    case = next(case for case in cases_for(implicit) if case.id == "prefill-left-padded")
    (call,) = calls_for(case, implicit)
    assert call.position_ids.tolist() == [list(range(9))] * 3


def test_limits_make_cases_skipped_with_the_reason_and_add_refusals(manifest):
    free, fused = cases_for(manifest), cases_for(replace(manifest, limits=FUSED_LIMITS))
    skipped = {case.id for case in fused if case.skipped}
    assert skipped == {
        "prefill-left-padded",
        "untouched-left-padded",
        "decode-left-padded",
        "chunked-prefill-batch",
        "strided",
        "offset-by-row",
        "shuffled",
        "repeated",
        "prefill-mixed-padded",
        "decode-mixed-padded",
        "decode-strided",
        "decode-repeated",
    }
    added = {case.id for case in fused} - {case.id for case in free}
    assert added == {"refuses-left-padding", "refuses-chunked-batch", "refuses-strided-prompt"}
    assert not any(case.skipped for case in free)


@pytest.mark.parametrize("limit", ["left_padding", "chunked_prefill_batch", "prompt_positions", "padded_past"])
def test_each_limit_skips_only_its_own(manifest, limit):
    limits = Limits(**{limit: False}, note="says the note")
    skipped = [case for case in cases_for(replace(manifest, limits=limits)) if case.skipped]
    assert skipped and all("says the note" in case.skipped for case in skipped)
    assert len(cases_for(replace(manifest, limits=limits))) == len(cases_for(manifest)) + 1  # its refusal
    assert len({case.skipped for case in skipped}) == 1


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 12, 16])
def test_small_tables_still_give_cases_inside_them(manifest, rows):
    small = replace(manifest, max_position=rows, limits=FUSED_LIMITS)
    cases = cases_for(small)
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        for number, call in enumerate(calls_for(case, small)):
            if case.refusal is None or number < len(case.later):
                assert call.position_ids.min() >= 0 and call.position_ids.max() < rows, case


def test_rule_of_the_length_is_tried_on_both_sides_of_its_threshold(manifest):
    config = {
        "head_dim": H,
        "max_position_embeddings": ROWS,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * (H // 2),
            "long_factor": [2.0] * (H // 2),
            "original_max_position_embeddings": 20,
        },
    }
    spec = specs_from_config(config)[""]
    assert spec.depends_on_length and spec.original_max_position == 20
    rotation = Rotation("main", spec.to_dict(), None, None, ROWS, "two-tables")
    long = replace(manifest, rotations=(rotation,))
    extra = set(ids(long)) - set(ids(manifest))
    around = {f"{form}-at-{at}" for form in ("prefill", "chunked-prefill", "decode") for at in (19, 20, 21)}
    assert extra == around | {"below-20", "beyond-20", "across-20", "decode-across-20", "chunked-across-20"}
    assert max(placed("below-20", long)[0]) == 19 and min(placed("beyond-20", long)[0]) == 20
    assert min(placed("across-20", long)[0]) < 20 <= max(placed("across-20", long)[0])
    case = next(case for case in cases_for(long) if case.id == "decode-across-20")
    prompt, *steps = calls_for(case, long)
    assert prompt.position_ids.max() < 20 <= steps[-1].position_ids.max()
