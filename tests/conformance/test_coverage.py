"""The page says of every family what its record says, and nothing better."""

from benchmarks.common import UNFUSED
from conformance.families.coverage import page, ropes, sentence
from conformance.families.record import Record, StyleResult

STYLES = ("tables", "onnx", "contrib", "plugin")


def green(name: str, **changed) -> Record:
    styles = {style: StyleResult(style, "green", sites=4, logits_error=3e-6) for style in STYLES}
    settings = {"verdict": "green", "expected": 4, "cached": "yes", "styles": styles, **changed}
    return Record(name, "decoder", "Some", **settings)


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_green_family() -> None:
    text = page([green("good", rules=["default"], layouts=["half"], caches=["DynamicLayer"])])
    cells = row(text, "good")
    assert cells[1:] == ["default", "half", "keys and values", "4 / 4", *["yes"] * 4, "3e-06"]
    assert "| [Decoders](#decoders) | 1 | 1 |" in text
    assert "| decoders and masked language models, all styles, with cache | ≥ 115 | 1 of 1 |" in text


def test_a_wrong_family_is_shown_as_wrong_and_explained() -> None:
    record = green("bad", verdict="wrong", reason="decode: off by 0.3 | here. And more.")
    record.styles["onnx"].verdict = "wrong"
    text = page([record, green("good")])
    assert row(text, "bad")[1:] == ["4", "wrong: decode: off by 0.3 / here."]
    assert "| [Decoders](#decoders) | 2 | 1 |" in text
    assert "| exported and wrong, or with a rotation lost | 0 | 1 |" in text


def test_contrib_is_right_if_both_of_its_forms_are() -> None:
    record = green("half")
    record.styles[UNFUSED] = StyleResult(UNFUSED, "wrong", sites=4)
    assert row(page([record]), "half")[5:9] == ["yes", "yes", "**no**", "yes"]
    record.styles[UNFUSED].verdict = "green"
    assert row(page([record]), "half")[7] == "yes"


def test_a_refused_family_has_a_reason_and_a_place_in_the_index() -> None:
    record = Record("shut_it", "decoder", "Some", verdict="refused", reason="No.", expected=2)
    text = page([record, green("good")])
    assert row(text, "shut_it")[1:] == ["2", "refused: No."]
    assert "**G** [good](#family-good)" in text
    assert "**S** **[shut_it](#family-shut-it)**" in text
    assert '<a id="family-shut-it"></a>' in text
    assert text.index("## Find a model") < text.index("## Decoders")


def test_engines_and_rope_types() -> None:
    types = {"default": {"verdict": "green"}, "yarn": {"verdict": "unaccepted", "reason": "It takes no notice of it."}}
    types["linear"] = {"verdict": "refused", "reason": "Not today. Maybe never."}
    built = green("good", engine={"verdict": "built", "style": "onnx"}, ropes=types)
    refused = green("stuck", engine={"verdict": "refused", "reason": "Operator X. It has no layer."})
    text = page([built, refused])
    assert row(text, "good")[-2:] == ["onnx", "d **l**"]
    assert row(text, "stuck")[-2] == "[no](#engines-family-stuck)"
    assert '<a id="engines-family-stuck"></a>`stuck`, no engine: Operator X.\n' in text
    assert "- `good` with rope type linear is refused: Not today.\n" in text
    assert "| 1 of 2 built |" in text
    assert "| rope types on the decoders that accept them | all | 1 of 2 |" in text
    assert ropes(built) == "d **l**"


def test_published_rules_have_a_table() -> None:
    rules = {"Good 1": {"verdict": "green", "logits_error": 2e-6}, "Good 2": {"verdict": "refused", "reason": "No."}}
    text = page([green("good", published=rules)])
    assert "| `good` | Good 1 | yes | 2e-06 |" in text
    assert "| `good` | Good 2 | **refused**: No. | – |" in text
    assert "| rules of published checkpoints | all | 1 of 2 |" in text
    assert "Published rules" not in page([green("good")])


def test_peers_get_a_column_and_a_count() -> None:
    record = green("good", peers={"torch.onnx 18": {"peer": "torch.onnx 18", "verdict": "wrong", "reason": ""}})
    text = page([record, green("other")])
    assert row(text, "good")[-1] == "**wrong**"
    assert row(text, "other")[-1] == "–"
    assert "| torch.onnx 18, without a cache | – | 0 of 1 right, 1 wrong, 0 no graph |" in text


def test_what_was_verified_again_is_marked() -> None:
    verified = {
        "right": 1,
        "wrong": 0,
        "blind": 1,
        "families": {"good": {"verdict": "right"}, "x": {"verdict": "blind"}},
    }
    text = page([green("good"), green("x")], verified)
    assert "`good` ✓ |" in text
    assert "`x` |" in text
    assert "1 right, 1 not |" in text


def test_what_does_not_rotate_or_run_is_left_out_and_named() -> None:
    still = Record("still", "decoder", "Some", verdict="no-rotation", expected=0)
    stuck = Record("stuck", "decoder", "Some", verdict="unbuildable", reason="ValueError: no. Really.")
    text = page([still, stuck, green("good")])
    assert "| [Decoders](#decoders) | 1 | 1 |" in text
    assert "2 more mention rotation" in text
    assert "## Left out\n\nApply no rotation as they are built by default: `still`." in text
    assert "- `stuck`: ValueError: no.\n" in text
    assert "## Left out" not in page([green("good")])


def test_versions_and_days() -> None:
    records = [green("a", date="2026-01-02", versions={"torch": "9"}), green("b", date="2026-01-03")]
    assert "Swept 2026-01-02 to 2026-01-03 with torch 9." in page(records)


def test_the_first_sentence_of_a_reason() -> None:
    assert sentence("It is shut. Go away.") == "It is shut."
    assert len(sentence("word " * 100)) <= 200
    assert sentence("a | b <c>") == "a / b ‹c›"
