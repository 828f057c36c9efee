"""A report is written over a report of the same command, and over nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from rope_deploy import api
from rope_deploy.cli import main as entry
from rope_deploy.errors import UsageError
from rope_deploy.report import FILE_NAMES
from rope_deploy.report.recognise_report import kind_of
from rope_deploy.results.records import Kind, Report
from rope_deploy.runs.baseline import write_baseline
from tests.report.sample import sample

EMPTY = Report("t", "hub/model", "2026-01-01T00:00:00", "machine", {}, 1.0)
FOREIGN = {
    "report.json": '{"schema_version": 1, "files": {}}',
    "report.xml": "<testsuites><testsuite name='mine'><testcase classname='mine.case'/></testsuite></testsuites>",
    "report.md": "# Our project\n\nSee <sub>below</sub>\n",
    "report.html": "<!doctype html><p>Made by hand.</p>",
    "report.sarif": '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "another"}}}]}',
}


@pytest.mark.parametrize("name", FILE_NAMES.values())
@pytest.mark.parametrize("report", [sample(), EMPTY])
def test_a_report_is_replaced_by_the_next(name, report, tmp_path):
    path = tmp_path / "made" / name
    api.write_report(report, path)
    assert kind_of(path) == ""
    before = path.read_text()
    api.write_report(replace(report, title="another"), path)
    assert path.read_text() != before
    assert [entry.name for entry in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", FILE_NAMES.values())
def test_somebody_else_s_file_of_that_name_is_not(name, tmp_path):
    path = tmp_path / name
    path.write_text(FOREIGN[name])
    with pytest.raises(UsageError, match="is not a report of rope-deploy") as caught:
        api.write_report(sample(), path)
    assert "Choose another name" in caught.value.todo
    assert path.read_text() == FOREIGN[name]


@pytest.mark.parametrize("name", FILE_NAMES.values())
@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_report_says_what_made_it_and_another_command_leaves_it(name, kind, tmp_path):
    path = tmp_path / name
    api.write_report(replace(sample(), kind=kind), path)
    assert kind_of(path) == kind
    before = path.read_bytes()
    for other in sorted({*get_args(Kind)} - {kind}):
        with pytest.raises(UsageError, match="is not replaced by a") as caught:
            api.write_report(replace(sample(), kind=other), path)
        assert caught.value.exists.startswith("It is a") and "Choose another name" in caught.value.todo
    assert path.read_bytes() == before
    api.write_report(replace(sample(), kind=kind), path)


def test_a_title_cannot_say_that_another_command_made_the_report(tmp_path):
    text = "Made by rope-deploy (bench)."
    for name in FILE_NAMES.values():
        path = tmp_path / name
        api.write_report(replace(sample(), title=text, source=f"· {text}</sub>", notes=(text,), kind="check"), path)
        assert kind_of(path) == "check", name


@pytest.mark.parametrize(("options", "audits"), [([], False), (["--audit"], True)])
def test_neither_check_nor_audit_replaces_a_baseline(options, audits, tmp_path, capsys):
    path = tmp_path / "b.json"
    write_baseline(sample(), path)
    before = path.read_bytes()
    assert entry.main(["check", *options, str(tmp_path / "absent"), "--report", str(path)]) == 2
    message = capsys.readouterr().err
    assert f"b.json is not replaced by a report of `check{' --audit' * audits}`" in message
    assert "It is a baseline" in message and path.read_bytes() == before


def test_bench_replaces_no_baseline_either_and_not_the_one_it_is_held_against(tmp_path, capsys):
    path = tmp_path / "b.json"
    api.write_report(replace(sample(), kind="bench"), path)
    before = path.read_bytes()
    assert entry.main(["bench", str(tmp_path), "--report", str(path), "--baseline", str(path)]) == 2
    assert "--report would replace the baseline" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_an_empty_file_may_be_taken(tmp_path):
    (tmp_path / "report.md").touch()
    api.write_report(EMPTY, tmp_path / "report.md")
    assert kind_of(tmp_path / "report.md") == ""


def test_reports_that_somebody_joined_with_others_are_not_replaced(tmp_path):
    path = tmp_path / "report.xml"
    api.write_report(sample(), path)
    ours = path.read_text().split("<testsuites", 1)[1]
    mine = "<testsuite name='mine'><testcase classname='mine.case' name='a'/></testsuite>"
    path.write_text(f"<all>{mine}<testsuites{ours}</all>")
    assert 'classname="rope_deploy.' in path.read_text() and kind_of(path) is None


@pytest.mark.parametrize("content", [b"\xff\xfe binary", b"[" * 100_000, b'{"a": ' * 100_000])
def test_what_cannot_be_read_is_none_of_ours(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    assert kind_of(tmp_path / "report.json") is None


def test_a_link_to_somewhere_is_not_written_through(tmp_path):
    (tmp_path / "blob").write_text("mine")
    (tmp_path / "report.md").symlink_to("blob")
    with pytest.raises(UsageError, match="is not a report"):
        api.write_report(EMPTY, tmp_path / "report.md")
    api.write_report(EMPTY, tmp_path / "other.md")
    before = (tmp_path / "other.md").read_text()
    (tmp_path / "link.md").symlink_to("other.md")
    api.write_report(sample(), tmp_path / "link.md")
    assert (tmp_path / "other.md").read_text() == before and not (tmp_path / "link.md").is_symlink()


@pytest.mark.parametrize("command", ["check", "bench"])
def test_the_command_says_it_before_any_work(command, tmp_path, capsys):
    (tmp_path / "README.md").write_text("# Mine\n")
    assert entry.main([command, str(tmp_path / "absent"), "--report", str(tmp_path / "README.md")]) == 2
    assert "README.md is not a report of rope-deploy" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def config(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "rope.toml"
    path.write_text(f'title = "t"\n[model]\nsource = "a/b"\n[output]\nfolder = "{tmp_path}/out"\n{more}')
    return path


@pytest.mark.parametrize("force", [False, True])
def test_ci_says_it_before_any_work_even_with_force(tmp_path, force):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("# Mine\n")
    with pytest.raises(UsageError, match=r"report\.md is not a report"):
        api.run_ci(config(tmp_path, 'formats = ["markdown"]\n'), force=force)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.md"]


def test_a_baseline_is_updated_over_a_report_alone(tmp_path):
    (tmp_path / "data.json").write_text('{"mine": 1}')
    path = config(tmp_path, f'[bench]\nbaseline = "{tmp_path}/data.json"\n')
    with pytest.raises(UsageError, match=r"data\.json is not a report"):
        api.run_ci(path, update_baseline=True)
    assert (tmp_path / "data.json").read_text() == '{"mine": 1}'


def test_a_baseline_is_updated_over_no_report_of_another_command(tmp_path):
    api.write_report(replace(sample(), kind="bench"), tmp_path / "b.json")
    before = (tmp_path / "b.json").read_bytes()
    path = config(tmp_path, f'[bench]\nbaseline = "{tmp_path}/b.json"\n')
    with pytest.raises(UsageError, match=r"b\.json is not replaced by a baseline"):
        api.run_ci(path, update_baseline=True)
    assert (tmp_path / "b.json").read_bytes() == before
    write_baseline(sample(), tmp_path / "c.json")
    write_baseline(sample(), tmp_path / "c.json")


def test_the_baseline_of_ci_does_not_lie_where_its_report_goes(tmp_path):
    path = config(tmp_path, f'formats = ["json"]\n[bench]\nbaseline = "{tmp_path}/out/report.json"\n')
    with pytest.raises(UsageError, match="lies where this run writes its report"):
        api.run_ci(path, update_baseline=True)
