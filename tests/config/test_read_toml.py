"""One file in, one RunConfig or one error with every fault out."""

import tomllib
from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rope_deploy.config import BuildSection, RunConfig, decode_config, load_config
from rope_deploy.errors import ConfigError

SMALLEST = '[model]\nsource = "hub/name"\n'


def faults(text):
    with pytest.raises(ConfigError) as caught:
        decode_config(text, name="run.toml", stem="run")
    assert str(caught.value).startswith("run.toml has ")
    assert caught.value.exit_code == 2
    return caught.value.faults


def only_fault(text):
    (fault,) = faults(text)
    return fault


def test_smallest_file_has_the_documented_defaults():
    config = decode_config(SMALLEST, stem="tiny")
    assert config.title == "tiny"
    assert config.model.source == "hub/name" and config.model.dtype == "float32" and not config.model.trust_remote_code
    assert config.export.styles == ("tables", "onnx", "contrib", "plugin")
    assert config.build is None and config.bench is None and config.generate is None
    assert config.check.runtimes == ("ort",)
    assert config.output.folder == "out/tiny"
    assert config.output.formats == ("json", "junit", "markdown", "html", "sarif")


def test_values_arrive_as_written():
    config = decode_config(
        SMALLEST
        + """
        [export]
        styles = ["onnx"]
        opset = 23
        [build]
        style = "onnx"
        compute_capabilities = ["8.0", "12.0"]
        profiles = { batch = [1, 2, 4] }
        [check]
        logits_tolerance = 1
        [generate]
        prompts = ["Grüße, 世界"]
        [gates]
        max_runtime_cos_sin = 0
        """
    )
    assert config.build == BuildSection("rtx", "onnx", ("8.0", "12.0"), {"batch": (1, 2, 4)})
    assert config.check.logits_tolerance == 1.0 and isinstance(config.check.logits_tolerance, float)
    assert config.generate.prompts == ("Grüße, 世界",)
    assert config.gates.max_runtime_cos_sin == 0


def test_one_length_and_several_are_both_lengths():
    assert decode_config(SMALLEST + "[bench]\nprompt = 64").bench.prompts == (64,)
    assert decode_config(SMALLEST + "[bench]\nprompt = [64, 512]").bench.prompts == (64, 512)


def test_gates_are_off_unless_asked_for():
    gates = decode_config(SMALLEST).gates
    assert not any(getattr(gates, field.name) for field in fields(gates))


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        decode_config(SMALLEST).title = "other"


def test_an_empty_table_asks_for_it_with_defaults():
    assert decode_config(SMALLEST + "[bench]").bench.prompts == (128,)


def test_faults_of_all_tables_come_at_once():
    found = faults(
        """
        title = 3
        [model]
        source = "a"
        dtype = "float31"
        [export]
        styles = ["tables", "onx"]
        max_postion = 3
        [build]
        compute_capabilities = [8.9]
        [bench]
        prompt = 0
        """
    )
    assert [fault.split(":")[0] for fault in found] == [
        "title",
        "[model] dtype",
        "[export] styles[1]",
        "[export] max_postion",
        "[build] compute_capabilities[0]",
        "[bench] prompt",
    ]


def test_a_fault_in_one_table_does_not_hide_a_rule_of_another():
    assert len(faults('[model]\n[export]\nopset = 18\n[bench]\nprompt = "x"')) == 3


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[export]\nmax_postion = 3", "Did you mean max_position?"),
        ("[exprot]\nopset = 3", "Did you mean export?"),
        ("[export]\nstyles = ['contib']", "Did you mean contrib?"),
        ("[export]\nruntimes = ['ort']", "Did you mean the one of [check]?"),
        ("[gates]\nzzz = 1", "Known here: max_logits_error"),
        ("[zzz]\n", "Known here: model, export"),
    ],
)
def test_an_unknown_word_gets_a_suggestion(text, hint):
    assert hint in only_fault(f"{SMALLEST}{text}")


def test_a_key_outside_its_table_is_sent_home():
    assert "Did you mean the one of [build]?" in only_fault("flavor = 'rtx'\n" + SMALLEST)
    assert "Did you mean title?" in only_fault("titel = 'x'\n" + SMALLEST)


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("[export]\ncache = 1", "[export] cache", "true or false, not 1"),
        ("[export]\nopset = '23'", "[export] opset", 'a whole number, not "23"'),
        ("[export]\nopset = true", "[export] opset", "not true"),
        ("[export]\nopset = 16", "[export] opset", "at least 17, not 16"),
        ("[export]\nstyles = 'onnx'", "[export] styles", 'a list in square brackets, not "onnx"'),
        ("[export]\nstyles = []", "[export] styles", "not be an empty list"),
        ("[export]\nmax_position = 99999999999999999999", "[export] max_position", "at most 2147483647"),
        ("[build]\ncompute_capabilities = [8.9]", "[build] compute_capabilities[0]", 'in quotes: "8.9"'),
        ("[build]\ncompute_capabilities = ['sm89']", "[build] compute_capabilities[0]", 'like "8.9"'),
        ("[build]\nprofiles = { batch = [1, 2] }", "[build] profiles.batch[2]", "exactly three numbers"),
        ("[build]\nprofiles = { batch = [1, 2, 3, 4] }", "[build] profiles.batch", "exactly three numbers"),
        ("[build]\nprofiles = { batch = 1 }", "[build] profiles.batch", "a list"),
        ("[build]\nprofiles = 1", "[build] profiles", "a table, not 1"),
        ("[check]\nlogits_tolerance = nan", "[check] logits_tolerance", "a finite number"),
        ("[check]\nlogits_tolerance = 0", "[check] logits_tolerance", "greater than 0"),
        ("[check]\nseed = -1", "[check] seed", "at least 0"),
        ("[check]\nset = 'fast'", "[check] set", "Known here: quick, full"),
        ("[bench]\nprompt = 0", "[bench] prompt", "at least 1, not 0"),
        ("[bench]\nprompt = [8, 0]", "[bench] prompt[1]", "at least 1, not 0"),
        ("[bench]\nprompt = []", "[bench] prompt", "not be an empty list"),
        ("[bench]\nprompt = '8'", "[bench] prompt", 'a whole number, not "8"'),
        ("[bench]\nprompt = { a = 1 }", "[bench] prompt", "a whole number, not a table"),
        ("[bench]\nother_machine = 'ignore'", "[bench] other_machine", '"ignore" is not one of the choices'),
        ("[bench]\nprofile = 1", "[bench] profile", "true or false, not 1"),
        ("[gates]\nmax_slowdown = 0", "[gates] max_slowdown", "greater than 0"),
        ("[gates]\nmax_nodes = 0", "[gates] max_nodes", "at least 1"),
        ("[gates]\nall_rotations_converted = 'yes'", "[gates] all_rotations_converted", 'true or false, not "yes"'),
        ("[gates]\nprovider = ''", "[gates] provider", "blank"),
        ("[gates]\nmax_latency_ratio = '1'\n[bench]", "[gates] max_latency_ratio", 'not "1"'),
        ("[gates]\nmax_logits_error = 2024-01-01", "[gates] max_logits_error", "the date or time 2024-01-01"),
        ("[generate]", "[generate] prompts", "is needed"),
        ("[generate]\nprompts = ['']", "[generate] prompts[0]", "blank"),
        ("[output]\nfolder = ' '", "[output] folder", "blank"),
        ("export = 3", "[model] export", "no such key"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(text, path, says):
    fault = only_fault(SMALLEST + text)
    assert fault.startswith(path + ":")
    assert says in fault


def test_a_table_given_as_a_value_is_a_fault():
    assert only_fault("export = 3\n" + SMALLEST).startswith("[export]: must be a table")


def test_a_file_without_a_model_says_so():
    assert "name the model" in only_fault("[export]")


def test_numbers_too_long_to_print_are_still_reported():
    assert "at most" in only_fault(f"{SMALLEST}[export]\nmax_position = 0x{'f' * 5000}")


def test_control_characters_of_the_file_stay_out_of_the_message():
    fault = only_fault(SMALLEST + '[export]\n"\\u001b[31mkey\\n" = 1\n')
    assert "\x1b" not in fault and "\n" not in fault


@pytest.mark.parametrize("broken", ["a = ", "[model", "a = 1\na = 2", "x = " + "[" * 50_000, "a = '\x00'"])
def test_broken_toml_is_a_config_error(broken):
    with pytest.raises(ConfigError, match=r"run\.toml is not valid TOML"):
        decode_config(broken, name="run.toml")


def test_the_line_of_a_syntax_error_is_given():
    with pytest.raises(ConfigError, match="line 2"):
        decode_config("[model]\nsource = \n")


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "smollm2.toml").write_text(SMALLEST)
    with pytest.raises(ConfigError, match=r"Did you mean .*smollm2\.toml"):
        load_config(tmp_path / "smolm2.toml")
    with pytest.raises(ConfigError, match="holds no"):
        load_config(tmp_path / "nowhere" / "x.toml")


def test_a_folder_is_refused_and_its_files_listed(tmp_path):
    (tmp_path / "a.toml").write_text(SMALLEST)
    with pytest.raises(ConfigError, match=r"is a folder[\s\S]*a\.toml"):
        load_config(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"title = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)


def test_a_very_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_config(path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "marked.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert load_config(path).output.folder == "out/marked"


def test_a_name_with_a_null_byte_is_a_config_error():
    with pytest.raises(ConfigError, match=r"cannot be read|no file"):
        load_config("a\0b.toml")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3))
tables = st.sampled_from(["title", "model", "export", "build", "check", "bench", "generate", "gates", "output", "x"])
keys = st.sampled_from(["source", "styles", "opset", "profiles", "compute_capabilities", "seed", "prompts", "x\n"])


@given(st.dictionaries(tables, values | st.dictionaries(keys, values, max_size=3), max_size=4))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_document_gives_a_config_or_a_list_of_faults(document):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", lambda text: document)
        try:
            assert isinstance(decode_config(""), RunConfig)
        except ConfigError as error:
            assert error.faults
            assert all("\n" not in fault for fault in error.faults)
