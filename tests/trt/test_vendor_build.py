"""The real build with the real library, on graphs of a few operators."""

import errno

import pytest

from rope_deploy.errors import ConfigError, UsageError, VendorError
from rope_deploy.trt.build_in_child import build_in_child
from rope_deploy.trt.engine_request import EngineRequest
from tests.trt.graphs import PLAIN, UNSUPPORTED, needs_rtx, write_onnx

pytestmark = needs_rtx
SHAPES = ((1, 1, 8), (1, 4, 8), (2, 9, 8))


@pytest.fixture
def make_request(tmp_path):
    def make(text=PLAIN, output=None, **changes):
        fields = {"profiles": ({"x": SHAPES, "y": SHAPES},), "capabilities": ("8.0",), **changes}
        model = write_onnx(tmp_path / "g.onnx", text)
        return EngineRequest(flavor="rtx", model=str(model), output=str(output or tmp_path / "g.engine"), **fields)

    return make


def test_an_engine_is_written_and_progress_reported(make_request, tmp_path):
    seen = []
    outcome = build_in_child(make_request(), seen.append)
    assert (tmp_path / "g.engine").stat().st_size > 1000
    assert 0 < outcome.seconds < 60
    assert {"Loading tensorrt_rtx", "Reading the graph", "Building engine"} <= {p.phase for p in seen}
    assert {p.depth for p in seen} >= {0, 1}


def test_an_unsupported_operator_is_named(make_request):
    with pytest.raises(VendorError, match="Bernoulli 'culprit'") as caught:
        build_in_child(make_request(UNSUPPORTED, profiles=({"x": ((1, 8), (1, 8), (2, 8))},)))
    assert "first" not in str(caught.value)


def test_a_capability_the_library_does_not_know_is_refused_with_the_list(make_request):
    with pytest.raises(UsageError, match=r"cannot build for 9\.0\.") as caught:
        build_in_child(make_request(capabilities=("8.0", "9.0")))
    assert "8.0, 8.6, 8.9" in caught.value.exists


def test_shapes_that_contradict_one_another_are_an_error_although_the_library_goes_on(make_request, tmp_path):
    text = PLAIN.replace("float[batch, width, 8] y", "float[batch, other, 8] y")
    build_in_child(make_request(text))
    (tmp_path / "g.engine").unlink()
    with pytest.raises(ConfigError, match="contradict one another"):
        build_in_child(make_request(text, profiles=({"x": SHAPES, "y": ((1, 1, 8), (1, 4, 8), (2, 7, 8))},)))
    assert not (tmp_path / "g.engine").exists()


def test_a_full_disk_arrives_as_what_it_is(make_request):
    with pytest.raises(OSError, match="No space left") as caught:
        build_in_child(make_request(output="/dev/full"))
    assert caught.value.errno == errno.ENOSPC
