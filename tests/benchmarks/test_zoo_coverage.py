"""The page says of every family what its record says, and nothing better."""

from benchmarks.families.coverage import page
from benchmarks.families.record import Record, StyleResult


def green(name: str, **changed) -> Record:
    styles = {style: StyleResult(style, "green", sites=4, logits_error=3e-6) for style in ("tables", "onnx")}
    return Record(name, "decoder", "Some", verdict="green", expected=4, cached="yes", styles=styles, **changed)


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_green_family() -> None:
    record = green("good", rules=["default"], layouts=["half"], caches=["DynamicLayer"])
    cells = row(page([record]), "good")
    assert cells == ["`good`", "default", "half", "keys and values", "4 / 4", "yes", "yes", "?", "?", "3e-06"]
    assert "| Decoders | 1 | 1 |" in page([record])


def test_a_wrong_style_is_shown_as_wrong_and_explained() -> None:
    record = green("bad")
    record.verdict, record.reason = "wrong", "decode: off by 0.3 | here"
    record.styles["onnx"].verdict = "wrong"
    text = page([record, green("good")])
    assert row(text, "bad")[5:7] == ["yes", "**wrong**"]
    assert "| Decoders | 2 | 1 |" in text
    assert "`bad`: decode: off by 0.3 / here" in text


def test_a_refused_family_has_no_style_that_passed() -> None:
    record = Record("shut", "decoder", "Some", verdict="refused", reason="No.", expected=2)
    assert row(page([record]), "shut")[4:] == ["2 / –", "no", "no", "no", "no", "–"]


def test_peers_get_a_column_and_a_count() -> None:
    record = green("good", peers={"torch.onnx 18": {"peer": "torch.onnx 18", "verdict": "wrong", "reason": ""}})
    text = page([record])
    assert row(text, "good")[-3:] == ["**wrong**", "?", "?"]
    assert "| torch.onnx 18 | 1 | 0 right, 1 wrong, 0 none |" in text


def test_what_does_not_rotate_is_only_counted() -> None:
    still = Record("still", "decoder", "Some", verdict="no-rotation", expected=0)
    text = page([still, green("good")])
    assert "`still`" not in text
    assert "1 more mention rotation" in text
