"""A verdict is green only for what is right: every other verdict is provoked with a fault."""

from pathlib import Path

import pytest
import torch

from benchmarks.common import UNFUSED
from conformance.families import check_styles
from conformance.families import judge as judging
from conformance.families.census import select
from conformance.families.judge import judge
from conformance.families.record import Record, read
from conformance.families.sweep import Sweep
from rope_deploy import api
from rope_deploy.errors import EnvironmentMissing, UnmatchedRotation
from rope_deploy.export import prepare, write

STYLES = ("tables",)


def verdict(tmp_path: Path, name: str = "llama", styles=STYLES) -> Record:
    return judge(select([name])[0], styles, tmp_path, tmp_path)


def test_a_right_family_is_green(tmp_path: Path) -> None:
    record = verdict(tmp_path)
    assert (record.verdict, record.stage, record.cached) == ("green", "done", "yes")
    (tables,) = record.styles.values()
    assert tables.sites == record.expected == 4
    assert tables.passed >= 13
    assert not tables.failed
    assert 0 < tables.logits_error < 1e-3
    assert record.rules == ["default"]
    assert record.caches == ["DynamicLayer"]
    assert record.felt > 0.05
    assert read(tmp_path, "llama") == record


@pytest.mark.sweep
def test_a_rotation_too_few_is_not_green(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = judging.count

    def one_more(make, feeds):
        model, given, paths = honest(make, feeds)
        return model, given, [*paths, "model.layers.9"]

    monkeypatch.setattr(judging, "count", one_more)
    record = verdict(tmp_path)
    assert record.verdict == "sites"
    assert record.reason == "PyTorch rotates 5 times, the graph 4 times."


def prepare_of_other_positions(loaded, *options, **more):
    rotary = loaded.model.model.rotary_emb
    with torch.no_grad():
        rotary.inv_freq.mul_(0.9)
    made = prepare(loaded, *options, **more)
    with torch.no_grad():
        rotary.inv_freq.div_(0.9)
    return made


def test_a_wrong_graph_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_styles, "prepare", prepare_of_other_positions)
    record = verdict(tmp_path)
    assert record.verdict == "wrong"
    assert "prefill" in record.styles["tables"].failed


def test_weights_that_change_on_the_way_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = api.load

    def changed(source):
        loaded = load(source)
        with torch.no_grad():
            loaded.model.lm_head.weight.mul_(1.01)
        return loaded

    monkeypatch.setattr(api, "load", changed)
    record = verdict(tmp_path)
    assert record.verdict == "wrong"
    assert "as loaded differs" in record.reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnmatchedRotation("A rotation was not understood.", todo="Look."), "refused"),
        (EnvironmentMissing("The disk is full."), "needs-package"),
        (KeyError("x"), "crash"),
    ],
)
def test_errors_become_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(check_styles, "prepare", failing)
    record = verdict(tmp_path)
    assert record.verdict == expected
    assert str(error).splitlines()[0] in record.reason


@pytest.mark.sweep
def test_one_style_that_fails_does_not_take_the_others_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_plugin(prepared, folder, style, **options):
        if style == "plugin":
            raise UnmatchedRotation("No plugin today.")
        return write(prepared, folder, style, **options)

    monkeypatch.setattr(check_styles, "write", without_plugin)
    record = verdict(tmp_path, styles=("tables", "plugin"))
    assert record.verdict == "refused"
    assert {name: one.verdict for name, one in record.styles.items()} == {"tables": "green", "plugin": "refused"}


@pytest.mark.sweep
def test_right_without_its_cache_is_not_green(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_cache(loaded, options, **more):
        if options.cache:
            raise UnmatchedRotation("No cache today.")
        return prepare(loaded, options, **more)

    monkeypatch.setattr(check_styles, "prepare", without_cache)
    record = verdict(tmp_path)
    assert (record.verdict, record.reason, record.cached) == ("uncached", *["No cache today."] * 2)
    assert record.styles["tables"].verdict == "green"


def test_what_does_not_rotate_is_not_exported(tmp_path: Path) -> None:
    record = verdict(tmp_path, "jamba")
    assert (record.verdict, record.expected, record.styles) == ("no-rotation", 0, {})


def test_what_transformers_cannot_build_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_):
        raise ImportError("Install mamba-ssm first.")

    monkeypatch.setattr(judging, "tiny_model", failing)
    assert verdict(tmp_path).verdict == "needs-package"


@pytest.mark.sweep
def test_what_fused_attention_cannot_do_is_asked_without_it(tmp_path: Path) -> None:
    record = verdict(tmp_path, styles=("contrib",))
    fused, unfused = record.styles.values()
    assert (fused.style, unfused.style) == ("contrib", UNFUSED)
    assert "prefill-left-padded" in fused.skipped
    assert unfused.skipped == {}
    assert unfused.passed == fused.passed + len(fused.skipped.keys() - {"limits"})
    assert record.verdict == "green"


@pytest.mark.slow
def test_a_fault_without_fused_attention_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_if_unfused(prepared, folder, style, *, fused_attention, **options):
        if not fused_attention:
            prepared = prepare_of_other_positions(prepared.loaded)
        return write(prepared, folder, style, fused_attention=fused_attention, **options)

    monkeypatch.setattr(check_styles, "write", wrong_if_unfused)
    record = verdict(tmp_path, styles=("contrib",))
    assert record.verdict == record.styles[UNFUSED].verdict == "wrong"
    assert record.styles["contrib"].verdict == "green"


def test_a_family_that_hangs_leaves_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(judging, "judge", lambda *_: time.sleep(60))
    (record,) = Sweep(tmp_path, STYLES, seconds=0.5, megabytes=8000).run(select(["llama"]))
    assert record.verdict == "timeout"
    assert read(tmp_path, "llama") == record
