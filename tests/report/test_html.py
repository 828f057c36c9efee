"""One page that needs nothing but itself, and in which no value becomes markup."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from rope_deploy.report.html import to_html

VOID = {"meta", "br", "wbr"}


class Page(HTMLParser):
    """Collects tags, attributes and visible text, and fails on tags that do not close in order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("which", ["passing", "failing", "mapped", "diagnosed", "empty", "nasty"])
def test_the_page_is_well_formed_and_asks_nobody_for_anything(which, request):
    source = to_html(request.getfixturevalue(which))
    page = Page(source)
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href", "srcset") or name.startswith("on")]
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style and "@import" not in style
    if which != "nasty":
        assert "http" not in source


def test_the_verdict_is_above_everything_else(passing, failing):
    for report, word in ((passing, "Passed"), (failing, "Failed")):
        source = to_html(report)
        assert f"<title>{word}: SmolLM2-135M-Instruct</title>" in source
        body = source[source.index("<body>") :]
        assert 0 < body.index(f"<b>{word}</b>") < body.index("<table>")


def test_what_failed_has_its_section_only_when_something_did(passing, failing):
    assert "What failed" not in to_html(passing)
    assert to_html(failing).count('class="problem"') == 5


def test_many_failures_are_folded_and_none_is_lost(failing):
    source = to_html(replace(failing, checks=failing.checks * 10))
    assert source.count('class="problem"') == 23 and "and 15 more" in source
    Page(source)


def test_details_with_a_failure_stand_open(passing, failing):
    assert '<details class="card" open><summary>Checks' in to_html(failing)
    assert '<details class="card"><summary>Checks' in to_html(passing)


def test_hostile_values_are_shown_as_they_are(nasty):
    page = Page(to_html(nasty))
    shown = "".join(page.text)
    assert "<script>alert(1)</script>" in shown and "{{ 1 }}" in shown and "\\x1b[31m" in shown


def test_a_report_without_results_still_makes_a_page(empty):
    assert "Nothing was judged." in to_html(empty)


def test_an_equal_text_is_shown_once_and_a_different_one_beside_it(passing, failing):
    assert to_html(passing).count('class="quote"') == 1
    assert to_html(failing).count('class="quote"') == 2
