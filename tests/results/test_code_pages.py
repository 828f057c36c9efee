"""Every code has its page, whole, and every page its code."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import rope_deploy.results
from rope_deploy.errors import UsageError
from rope_deploy.results.code_pages import SECTIONS, index, page_of, page_text, parts_of, shown
from rope_deploy.results.codes import CODES

PAGES = Path(rope_deploy.results.__file__).parent / "pages"


def test_every_code_has_a_page_and_every_page_a_code():
    assert {path.stem for path in PAGES.glob("*.md")} == set(CODES)
    assert {path.suffix for path in PAGES.iterdir()} == {".md"}


@pytest.mark.parametrize("code", CODES)
def test_a_page_has_its_four_parts_and_fits_a_screen_or_two(code):
    page = page_of(code)
    assert page.title == CODES[code]
    for part in (page.what, page.why, page.example, page.fix):
        assert len(part) > 30
    assert "```" in page.example and page.example.count("```") % 2 == 0
    lines = page.to_markdown().splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 120


@pytest.mark.parametrize("planted", ["missing", "empty", "swapped", "preamble"])
def test_a_page_with_a_part_missing_is_noticed(planted):
    text = page_text("RD101")
    broken = {
        "missing": text.replace("## Fix\n", ""),
        "empty": text[: text.index("## Fix")] + "## Fix\n",
        "swapped": text.replace("## What", "## X").replace("## Fix", "## What").replace("## X", "## Fix"),
        "preamble": "hello\n" + text,
    }[planted]
    with pytest.raises(ValueError, match="parts"):
        parts_of(broken)
    assert len(parts_of(text)) == len(SECTIONS)


def test_codes_are_found_in_small_letters():
    assert page_of(" rd105 ") == page_of("RD105")


@pytest.mark.parametrize(
    ("asked", "near"), [("RD208", "RD207"), ("RD999", "RD902"), ("theta", "RD301"), ("rd", "RD101"), ("", "RD")]
)
def test_an_unknown_code_names_the_nearest(asked, near):
    with pytest.raises(UsageError) as caught:
        page_of(asked)
    assert near in caught.value.exists and "all" in caught.value.todo


def test_a_terminal_gets_rich_text_and_a_file_markdown():
    def printed(**options):
        stream = io.StringIO()
        shown(page_of("RD301"), Console(file=stream, width=100, **options))
        return stream.getvalue()

    assert printed() == page_of("RD301").to_markdown()
    rich = printed(force_terminal=True, color_system="standard")
    assert "\x1b[" in rich and "## What" not in rich and "due (rad)" in rich


def test_the_index_lists_every_code_once():
    assert [line.split("  ")[0] for line in index().splitlines()] == list(CODES)
