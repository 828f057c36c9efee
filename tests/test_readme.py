"""README cannot rot: its commands parse, its Python calls fit the signatures, its links and targets exist."""

import ast
import importlib
import inspect
import re
import shlex
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import click
import pytest

from rope_deploy.cli.main import COMMANDS, group
from rope_deploy.config import GatesSection
from rope_deploy.errors import EnvironmentMissing, RopeDeployError
from rope_deploy.report.json_format import SCHEMA_VERSION

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str, program: str) -> list[str]:
    """Lines of console blocks that call `program`; a trailing backslash joins lines."""
    console = "".join(blocks(text, "console")).replace("\\\n", " ")
    return [line for line in console.splitlines() if line.split(" ")[0] == program]


def parse(line: str) -> None:
    """Parse a `rope-deploy` command line without running it; paths in it need not exist."""
    name, *words = shlex.split(line, comments=True)[1:]
    command = group.get_command(click.Context(group, info_name="rope-deploy"), name)
    with suppress(click.exceptions.Exit):  # an option that answers by itself, such as --explain
        command.make_context(name, words)


def broken_links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    return [t for t in targets if "://" not in t and not (page.parent / t).exists()]


def missing_anchors(text: str) -> list[str]:
    headings = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}
    named = set(re.findall(r'<a id="([^"]+)"></a>', text))
    return [anchor for anchor in re.findall(r"\]\(#([^)]+)\)", text) if anchor not in headings | named]


def wrong_calls(code: str) -> list[str]:
    """Calls of `api.NAME(...)` in `code` that its signature does not accept."""
    api = importlib.import_module("rope_deploy.api")
    wrong = []
    for node in ast.walk(ast.parse(code)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "api"):
            continue
        try:
            signature = inspect.signature(getattr(api, node.func.attr))
            signature.bind(*node.args, **{keyword.arg: None for keyword in node.keywords})
        except (AttributeError, TypeError) as error:
            wrong.append(f"{ast.unparse(node)}: {error}")
    return wrong


@pytest.fixture(autouse=True)
def any_path_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)


def test_it_opens_with_the_two_commands() -> None:
    assert blocks(README, "console")[0] == "make demo\nmake test\n"


def test_make_targets_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {word for page in PAGES for word in re.findall(r"(?m)(?:^|`)make ([a-z][a-z-]*)", page.read_text())}
    assert {"demo", "test"} <= shown
    assert shown - targets == set()


def test_ci_runs_the_test_command() -> None:
    command, *targets = (ROOT / ".ci" / "run").read_text().splitlines()[-1].split()
    assert (command, targets[-1]) == ("make", "test"), "pytest's closing line comes last"


@pytest.mark.parametrize(
    "line", sorted({line for page in PAGES for line in command_lines(page.read_text(), "rope-deploy")})
)
def test_command_line_parses(line: str) -> None:
    parse(line)


def test_a_command_line_with_a_wrong_option_does_not_parse() -> None:
    with pytest.raises(click.UsageError):
        parse("rope-deploy export path/to/model -o out/model --stile onnx")


def test_every_command_is_mentioned() -> None:
    assert [name for name in COMMANDS if f"rope-deploy {name}" not in README] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_fit_the_signatures(page: Path) -> None:
    assert [wrong for code in blocks(page.read_text(), "python") for wrong in wrong_calls(code)] == []


def test_a_wrong_python_call_is_noticed() -> None:
    assert len(wrong_calls("api.export()\napi.no_such_function()\napi.export('a', 'b')")) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []
    assert missing_anchors(page.read_text()) == []


def invented_lines(text: str) -> list[str]:
    """Lines of excerpts (indented or not, opened by `# path`) that the file they name does not have in this order."""
    invented = []
    for indent, body in re.findall(r"^( *)```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        path, *lines = [line.removeprefix(indent) for line in body.splitlines()]
        rest = iter((ROOT / path.removeprefix("# ")).read_text().splitlines())
        invented += [line for line in lines if line.strip() not in ("", "...") and line not in rest]
    return invented


def test_excerpts_are_real_lines() -> None:
    assert invented_lines((ROOT / "CONTRIBUTING.md").read_text()) == []


def test_an_invented_line_is_noticed() -> None:
    excerpt = "```python\n# rope_deploy/errors.py\nclass UsageError(RopeDeployError):\n    exit_code = 7\n```\n"
    assert invented_lines(excerpt) == ["    exit_code = 7"]


def test_every_workflow_and_the_page_about_them_are_linked() -> None:
    for page in ("README.md", "docs/ci.md"):
        text = (ROOT / page).read_text()
        assert all(f"examples/ci/{path.name}" in text for path in (ROOT / "examples" / "ci").iterdir())
    assert "(docs/ci.md)" in README


def test_every_gate_is_on_the_page_about_them() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    assert [field.name for field in fields(GatesSection) if f"| `{field.name}` |" not in page] == []


def test_the_schema_linked_is_the_one_that_reports_have() -> None:
    assert f"(schema/report-{SCHEMA_VERSION}.json)" in (ROOT / "docs" / "ci.md").read_text()


def test_the_exit_codes_are_those_of_the_errors() -> None:
    shown = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)}

    def codes(cls: type[RopeDeployError]) -> set[int]:
        return {cls.exit_code}.union(*(codes(child) for child in cls.__subclasses__()))

    assert shown == {0} | codes(RopeDeployError)
    assert EnvironmentMissing.exit_code == 3
