"""ONNX Runtime itself says where each node runs."""

import pytest

from rope_deploy.errors import EnvironmentMissing, VendorError
from rope_deploy.runtimes.onnx_runtime import require_providers
from rope_deploy.runtimes.ort_placement import placement
from tests.runtimes.toy import write_toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("placement") / "toy"
    write_toy(place)
    return place


def test_every_node_of_a_graph_runs_on_the_cpu_if_that_is_asked_for(folder):
    found = placement(folder, "CPUExecutionProvider")
    assert list(found) == ["CPUExecutionProvider"] and found["CPUExecutionProvider"] > 20


def test_a_provider_that_takes_no_node_leaves_them_to_the_cpu(folder):
    """Azure's is in every build of ONNX Runtime and takes no operator of ours."""
    assert list(placement(folder, "AzureExecutionProvider")) == ["CPUExecutionProvider"]


def test_a_provider_that_is_not_installed_is_named_with_those_that_are():
    with pytest.raises(EnvironmentMissing, match="no FancyExecutionProvider") as caught:
        require_providers(("FancyExecutionProvider",))
    assert "CPUExecutionProvider" in caught.value.exists and caught.value.exit_code == 3


def test_a_graph_that_cannot_be_loaded_is_the_vendors_failure(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(VendorError, match="cannot load"):
        placement(tmp_path, "CPUExecutionProvider")
