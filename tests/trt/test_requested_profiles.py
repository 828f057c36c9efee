from dataclasses import replace

import pytest

from rope_deploy.artifact import TensorInfo
from rope_deploy.errors import ConfigError
from rope_deploy.trt.profiles import derived_profiles
from rope_deploy.trt.requested_profiles import requested_profiles
from tests.trt.graphs import manifest

M = manifest(4096)


def sizes(*texts, m=M):
    """{profile: {axis: "min:opt:max"}} of a request."""
    made = requested_profiles(texts, m.inputs, m)
    return {p.name: {axis: str(size) for axis, size in p.axes.items()} for p in made}


def faults_of(*texts, inputs=M.inputs, m=M):
    with pytest.raises(ConfigError) as caught:
        requested_profiles(texts, inputs, m)
    return caught.value.faults


def test_without_a_request_the_derived_profiles_are_built():
    assert requested_profiles((), M.inputs, M) == derived_profiles(M)


def test_shapes_of_an_input_set_all_its_axes_in_one_profile():
    made = sizes("input_ids=1x1:1x128:4x512")
    assert made == {"all": {"batch": "1:1:4", "sequence": "1:128:512", "total": "1:128:4096", "past": "0:0:3584"}}


def test_an_axis_and_an_input_say_the_same():
    assert sizes("input_ids=1x1:1x128:4x512") == sizes("batch=1:1:4", "sequence=1:128:512")


def test_one_size_stands_for_all_three():
    assert sizes("sequence=1", "past=5")["all"]["total"] == "6:6:6"


def test_a_named_profile_changes_and_the_other_stays():
    made = sizes("batch@decode=1:8:16")
    assert list(made) == ["prefill", "decode"]
    assert (made["prefill"]["batch"], made["decode"]["batch"]) == ("1:1:4", "1:8:16")
    assert made["decode"]["sequence"] == "1:1:1"


def test_a_new_name_adds_a_profile():
    assert list(sizes("sequence@long=1:2048:4096")) == ["prefill", "decode", "long"]


def test_the_past_follows_from_total_and_sequence():
    assert sizes("sequence=1:16:32", "total=1:16:64")["all"]["past"] == "0:0:32"


def test_every_fault_is_reported_at_once():
    found = faults_of("batch=1:4", "ids=1", "past=5:0:32", "attention_mask=1:2:4", "nonsense", "=1:1:1")
    assert len(found) == 6
    for part in ("'1:4'", "no input or axis 'ids'", "does not ascend", "2 dimension", "'nonsense'", "'=1:1:1'"):
        assert sum(part in fault for fault in found) == 1, part


def test_options_that_contradict_one_another_are_named_both():
    (fault,) = faults_of("batch=1:1:3", "input_ids=1x1:1x16:4x32")
    assert "batch=1:1:3" in fault
    assert "input_ids" in fault


def test_a_fixed_dimension_cannot_be_changed():
    (fault,) = faults_of("past_key_values.0.key=1x2x0x16:1x2x0x16:1x3x9x16")
    assert "fixed dimension 2" in fault


def test_a_total_that_is_not_past_plus_sequence_is_refused():
    (fault,) = faults_of("sequence=1:16:32", "past=0:0:32", "total=1:16:65")
    assert "1:16:64" in fault


def test_more_tokens_than_max_position_are_refused():
    (fault,) = faults_of("sequence=1:16:4097")
    assert "max_position 4096" in fault


def test_a_past_that_leaves_no_room_for_a_token_is_refused():
    assert "max_position" in faults_of("past=0:0:4096")[0]


def test_without_a_manifest_every_dynamic_axis_is_asked_for_and_its_inputs_are_named():
    found = faults_of(inputs=M.inputs, m=None)
    assert len(found) == 4
    assert any("axis past" in f and "past_key_values.0.key" in f for f in found)
    assert all("input_ids" not in f for f in found if "axis past" in f)


def test_without_a_manifest_the_given_axes_are_enough():
    (made,) = requested_profiles(["a=1:2:3", "x[1]=7"], (TensorInfo("x", "float32", ("a", "x[1]")),), None)
    assert {axis: str(size) for axis, size in made.axes.items()} == {"a": "1:2:3", "x[1]": "7:7:7"}


def test_an_input_with_an_at_sign_in_its_name_can_be_meant():
    (made,) = requested_profiles(["x@0=1:2:3"], (TensorInfo("x@0", "float32", ("a",)),), None)
    assert (made.name, str(made.axes["a"])) == ("all", "1:2:3")


def test_an_axis_nobody_knows_is_asked_for_even_with_a_manifest():
    m = replace(M, inputs=(*M.inputs, TensorInfo("pixels", "float32", ("batch", "patches"))))
    (*_, fault) = faults_of(inputs=m.inputs, m=m)
    assert "axis patches" in fault
    assert "pixels" in fault
    assert sizes("patches=1:2:3", m=m)["all"]["patches"] == "1:2:3"
