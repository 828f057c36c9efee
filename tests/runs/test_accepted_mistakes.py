"""Differences from a configuration get their name, stop what was asked, and go on only by that name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from rope_deploy.cli.main import main
from rope_deploy.errors import MistakeFound, UsageError
from rope_deploy.export import prepare
from rope_deploy.export.audit_tables import audit_rotations
from rope_deploy.export.prepare_model import in_float64
from rope_deploy.models import load_model
from rope_deploy.options import ExportOptions
from rope_deploy.results.codes import require_codes
from rope_deploy.rope import Linear, LongRope
from rope_deploy.runs.accepted_mistakes import Judge
from rope_deploy.runs.export import prepare_judged
from tests import tiny
from tests.families.prepared import prepared
from tests.sweep import swept

ANOTHER_BASE = "tests.models.plain:plain_with_another_base"
HALF = "tests.models.plain:half_angles"
HALF_WITH_CONFIG = "tests.models.plain:half_angles_with_config"
BFLOAT = "tests.models.plain:bfloat_angles_with_config"


def judged(family: str, change, accepted=(), *, table=lambda table: table, **settings):
    """The findings of `family` against its specs changed by `change`, of its rotations changed by `table`."""
    ready = prepared(family)
    specs = {name: change(spec) for name, spec in ready.loaded.specs.items()}
    rotations = tuple(replace(one, table=table(one.table)) for one in ready.raised.rotations)
    judge = Judge(specs, frozenset(accepted), **settings)
    return [finding for one in judge(audit_rotations(rotations, specs)) for finding in one.findings]


def same(spec):
    return spec


MISTAKES = {
    "another base": ("qwen2", "RD301", lambda spec: replace(spec, rope_theta=spec.rope_theta * 2), {}),
    "a rule that was dropped": ("qwen2", "RD302", lambda spec: replace(spec, scaling=Linear(4.0)), {}),
    "another width": ("gpt_neox", "RD103", lambda spec: replace(spec, rotary_dim=16), {}),
    "the factors of LongRoPE exchanged": (
        "phi3",
        "RD308",
        lambda spec: replace(
            spec,
            scaling=replace(spec.scaling, short_factor=spec.scaling.long_factor, long_factor=spec.scaling.short_factor),
        ),
        {},
    ),
    "the layout of a file": (
        "qwen2",
        "RD101",
        lambda spec: replace(spec, interleaved=not spec.interleaved),
        {"layouts": True},
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_stops_and_goes_on_by_its_name(case):
    family, code, change, settings = MISTAKES[case]
    with pytest.raises(MistakeFound, match=code) as caught:
        judged(family, change, **settings)
    assert caught.value.codes == (code,)
    assert caught.value.exit_code == 2
    assert f"--accept {code}" in caught.value.todo
    with pytest.raises(MistakeFound):
        judged(family, change, ["RD900"], **settings)
    (finding,) = judged(family, change, [code], **settings)
    assert (finding.accepted, finding.severity) == (code, "error")
    assert finding.message.startswith(f"rope_0: {code}, ") and finding.message.endswith("Accepted.")


def test_a_table_that_nothing_explains_stops_as_well():
    def torn(table):
        cos = table.cos.copy()
        cos[100:] = np.random.default_rng(0).uniform(-1, 1, cos[100:].shape)
        return replace(table, cos=cos)

    with pytest.raises(MistakeFound, match="RD900") as caught:
        judged("qwen2", same, table=torn)
    assert caught.value.codes == ("RD900",)
    (finding,) = judged("qwen2", same, ["RD900"], table=torn)
    assert finding.accepted == "RD900"


def test_another_order_of_roundings_is_no_mistake():
    """Angles of a base off by a part in 10⁸ differ by more than fp32 cosines, by less than fp32 angles."""

    def elsewhere(spec):
        return replace(spec, rope_theta=spec.rope_theta * (1 + 3e-8))

    rotations, specs = prepared("qwen2").raised.rotations, {"": elsewhere(prepared("qwen2").loaded.specs[""])}
    assert judged("qwen2", elsewhere) == []
    with pytest.raises(MistakeFound):
        judged("qwen2", lambda spec: replace(spec, rope_theta=spec.rope_theta * (1 + 1e-4)))
    assert len(rotations) == len(specs) == 1


@pytest.mark.sweep
@pytest.mark.parametrize("family", ["cohere2", "modernbert"])
def test_a_half_model_may_round_its_tables(family):
    """These rotate in fp32 with cos and sin in the type of the model; an fp32 model that does is another thing."""
    ready = prepare(tiny.loaded(family, dtype="float16"))
    kinds = {finding.code for finding in ready.findings}
    assert kinds == {"table-differs"}
    judge = Judge(ready.loaded.specs, frozenset(), dtype="float16")
    assert {f.accepted for one in judge(ready.audited) for f in one.findings} == {""}
    with pytest.raises(MistakeFound, match="RD503"):
        Judge(ready.loaded.specs, frozenset(), dtype="float32")(ready.audited)


@pytest.mark.parametrize("family", swept(tiny.FAMILIES, ["llama"]))
def test_no_family_is_stopped(family):
    assert judged(family, same) == []


def test_a_model_is_right_about_its_own_layout():
    (finding,) = judged("qwen2", lambda spec: replace(spec, interleaved=True))
    assert (finding.code, finding.accepted) == ("layout-differs", "")


def test_tables_that_were_rounded_are_corrected_by_fp64():
    """bf16 angles: RD501, unless the tables are about to be computed anew."""

    def short(table):
        spec = prepared("qwen2").loaded.specs[""]
        angles = np.arange(len(table.cos), dtype=np.float32)[:, None] * spec.inv_freq()
        angles = angles.astype(np.float16).astype(np.float32)
        return replace(table, cos=np.cos(angles), sin=np.sin(angles))

    with pytest.raises(MistakeFound, match="RD501") as caught:
        judged("qwen2", same, table=short)
    assert "--angles float64" in caught.value.todo
    (finding,) = judged("qwen2", same, table=short, recomputed=True)
    assert (finding.code, finding.severity, finding.accepted) == ("table-rounded", "info", "")
    with pytest.raises(MistakeFound):
        judged("qwen2", lambda spec: replace(spec, rope_theta=77.0), recomputed=True)


def test_codes_that_there_are_not_are_refused():
    assert require_codes(["RD301", "RD900"]) == {"RD301", "RD900"}
    with pytest.raises(UsageError, match="RD999"):
        require_codes(["RD301", "RD999"])


# Models


def test_an_export_stops_and_leaves_nothing(tmp_path):
    with pytest.raises(MistakeFound, match="RD301, rope_theta is wrong"):
        api.export(ANOTHER_BASE, tmp_path / "artifact", cache=False)
    assert list(tmp_path.iterdir()) == []


def test_what_was_accepted_stands_in_the_manifest(tmp_path):
    (record,) = api.export(ANOTHER_BASE, tmp_path / "artifact", cache=False, accept=["RD301"])
    found = load_manifest(tmp_path / "artifact").findings
    assert [(one.code, one.accepted) for one in found] == [("layout-differs", ""), ("table-differs", "RD301")]
    assert record.findings == tuple(one.message for one in found)


@pytest.mark.slow
def test_a_model_that_computes_its_angles_in_half_is_stopped_by_a_rule_and_without_one(tmp_path):
    for source in (HALF, HALF_WITH_CONFIG, BFLOAT):
        with pytest.raises(MistakeFound, match="RD501"):
            prepare_judged(load_model(source), ExportOptions(cache=False))
    (one,) = prepare_judged(load_model(HALF), ExportOptions(cache=False, accept=("RD501",))).audited
    assert [finding.accepted for finding in one.findings if finding.accepted] == ["RD501"]
    with pytest.raises(UsageError, match="no rule is stated"):
        in_float64(one)
    ready = prepare_judged(load_model(HALF_WITH_CONFIG), ExportOptions(cache=False, angles="float64"))
    right = prepare_judged(
        load_model("tests.models.plain:plain_with_config"), ExportOptions(cache=False, angles="float64")
    )
    np.testing.assert_array_equal(ready.raised.rotations[0].table.cos, right.raised.rotations[0].table.cos)


def test_longrope_is_a_rule_of_two_tables():
    assert isinstance(prepared("phi3").loaded.specs[""].scaling, LongRope), "MISTAKES needs one"


CI = """
[model]
source = "tests.models.plain:plain_with_another_base"
[export]
styles = ["tables"]
cache = false
{accept}
[output]
folder = "{folder}"
formats = ["json"]
"""


@pytest.mark.slow
def test_a_configuration_of_ci_accepts_by_code(tmp_path, capsys):
    def run(accept: str) -> int:
        (tmp_path / "rope.toml").write_text(CI.format(folder=tmp_path / "out", accept=accept))
        return main(["ci", str(tmp_path / "rope.toml"), "--force"])

    assert run("") == 2
    assert "RD301, rope_theta is wrong" in capsys.readouterr().err
    assert run('accept = ["rope_theta"]') == 2
    assert "[export] accept[0]" in capsys.readouterr().err
    assert run('accept = ["RD301"]') != 2, "it goes on to the check, which judges by the rule that is stated"
    (finding, *_) = [f for f in load_manifest(tmp_path / "out" / "tables").findings if f.accepted]
    assert finding.accepted == "RD301"
