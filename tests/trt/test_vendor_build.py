"""Each failure of the library has its class and its words; the real library builds graphs of a few operators."""

import errno
import sys
from types import SimpleNamespace

import pytest

from rope_deploy.errors import ConfigError, EnvironmentMissing, GraphRefused, RefusedNode, UsageError, VendorError
from rope_deploy.trt import vendor_build
from rope_deploy.trt.build_in_child import build_in_child
from rope_deploy.trt.engine_request import EngineRequest
from rope_deploy.trt.flavors import FLAVORS
from tests.trt.graphs import PLAIN, UNSUPPORTED, needs_rtx, write_onnx

SHAPES = ((1, 1, 8), (1, 4, 8), (2, 9, 8))


@pytest.fixture
def make_request(tmp_path):
    def make(text=PLAIN, output=None, **changes):
        fields = {"profiles": ({"x": SHAPES, "y": SHAPES},), "capabilities": ("8.0",), **changes}
        model = write_onnx(tmp_path / "g.onnx", text)
        return EngineRequest(flavor="rtx", model=str(model), output=str(output or tmp_path / "g.engine"), **fields)

    return make


@needs_rtx
def test_an_engine_is_written_and_progress_reported(make_request, tmp_path):
    seen = []
    outcome = build_in_child(make_request(), seen.append)
    assert (tmp_path / "g.engine").stat().st_size > 1000
    assert 0 < outcome.seconds < 60
    assert {"Loading tensorrt_rtx", "Reading the graph", "Building engine"} <= {p.phase for p in seen}
    assert {p.depth for p in seen} >= {0, 1}


@needs_rtx
def test_an_unsupported_operator_is_named(make_request):
    with pytest.raises(VendorError, match="Bernoulli 'culprit'") as caught:
        build_in_child(make_request(UNSUPPORTED, profiles=({"x": ((1, 8), (1, 8), (2, 8))},)))
    assert "first" not in str(caught.value)


@needs_rtx
def test_a_capability_the_library_does_not_know_is_refused_with_the_list(make_request):
    with pytest.raises(UsageError, match=r"cannot build for 9\.0\.") as caught:
        build_in_child(make_request(capabilities=("8.0", "9.0")))
    assert "8.0, 8.6, 8.9" in caught.value.exists


@needs_rtx
def test_shapes_that_contradict_one_another_are_an_error_although_the_library_goes_on(make_request, tmp_path):
    text = PLAIN.replace("float[batch, width, 8] y", "float[batch, other, 8] y")
    build_in_child(make_request(text))
    (tmp_path / "g.engine").unlink()
    with pytest.raises(ConfigError, match="contradict one another"):
        build_in_child(make_request(text, profiles=({"x": SHAPES, "y": ((1, 1, 8), (1, 4, 8), (2, 7, 8))},)))
    assert not (tmp_path / "g.engine").exists()


@needs_rtx
def test_a_full_disk_arrives_as_what_it_is(make_request):
    with pytest.raises(OSError, match="No space left") as caught:
        build_in_child(make_request(output="/dev/full"))
    assert caught.value.errno == errno.ENOSPC


class Refused(Exception):
    """In place of Polygraphy's exception."""


class Library:
    """In place of the vendor's module: it takes everything but what a test says. `said`: what it logs in a build."""

    __name__, __version__ = "tensorrt_rtx", "1.2"
    ComputeCapability = SimpleNamespace(SM80=0, SM86=1, NONE=2)
    NetworkDefinitionCreationFlag = LayerType = SimpleNamespace()
    ILogger = SimpleNamespace
    Builder = staticmethod(lambda logger: SimpleNamespace(create_network=lambda flags: None))

    def __init__(self, *, plugin=True, errors=(), said=(), refuses=False):
        self.plugin, self.errors, self.said, self.refuses = plugin, errors, said, refuses

    def get_plugin_registry(self):
        return SimpleNamespace(load_library=lambda path: path if self.plugin else None)

    def OnnxParser(self, network, logger):
        return SimpleNamespace(
            parse_from_file=lambda path: not self.errors, num_errors=len(self.errors), get_error=self.errors.__getitem__
        )

    def EngineBytesFromNetwork(self, *arguments, **keywords):
        def make():
            if self.refuses:
                raise Refused("the second, by Polygraphy")
            return b"engine"

        return make


def parser_error(name):
    return SimpleNamespace(
        node=lambda: 3,
        node_operator=lambda: "Op",
        node_name=lambda: name,
        local_function_stack=lambda: ["inside"],
        code=lambda: "ErrorCode.UNSUPPORTED_NODE",
        desc=lambda: "why",
    )


def failure_of(library, monkeypatch, tmp_path, **changes):
    """What `build` raises with `library` in the vendor's place."""
    polygraphy = SimpleNamespace(EngineBytesFromNetwork=library.EngineBytesFromNetwork, PolygraphyException=Refused)
    for name in ("polygraphy", "polygraphy.backend", "polygraphy.backend.trt", "polygraphy.exception"):
        monkeypatch.setitem(sys.modules, name, polygraphy)
    monkeypatch.setattr(vendor_build, "import_module", lambda name: library)
    monkeypatch.setattr(vendor_build, "_logger", lambda trt, messages: messages.extend(library.said))
    monkeypatch.setattr(vendor_build, "_mark_taps", lambda network, names: None)
    monkeypatch.setattr(vendor_build, "_config", lambda *arguments: None)
    output = tmp_path / "g.engine"
    request = EngineRequest("rtx", model="g.onnx", output=str(output), profiles=(), **changes)
    with pytest.raises(Exception) as caught:
        vendor_build.build(request, lambda step: None)
    assert not output.exists()
    return caught.value


WARNED, SAID = ("warning", "a warning"), tuple(("error", text) for text in ("none", "the first", "the second", "third"))


@pytest.mark.parametrize(
    ("library", "changes", "kind", "says", "exists", "todo"),
    [
        (
            Library(errors=(parser_error("the first"), parser_error("the second"))),
            {},
            GraphRefused,
            "tensorrt_rtx 1.2 does not accept this graph:\n"
            "  - {first} (node 3): unsupported node: why\n"
            "  - {second} (node 3): unsupported node: why",
            "",
            "Export with another --style or --opset, or a custom operator with --plugin.",
        ),
        (
            Library(refuses=True, said=(*SAID, WARNED)),
            {},
            GraphRefused,
            "The builder refused this graph:\n  - the first\n  - the second\n  - third",
            "",
            "The vendor's message names the operator; another --dtype or --style may do.",
        ),
        (
            Library(refuses=True),
            {},
            GraphRefused,
            "The builder refused this graph:\n  - the second, by Polygraphy",
            "",
            "The vendor's message names the operator; another --dtype or --style may do.",
        ),
        (
            Library(plugin=False, said=(SAID[2], WARNED)),
            {"plugin": "lib.so"},
            VendorError,
            "lib.so cannot be loaded as a TensorRT plugin library.\nthe second",
            "",
            "Build the plugin for this TensorRT.",
        ),
        (
            Library(said=(WARNED, ("warning", "the second is not self-consistent"))),
            {},
            ConfigError,
            "The shapes of an optimisation profile contradict one another:",
            "",
            "Change the --profile options so that the shapes fit.",
        ),
        (
            Library(),
            {"capabilities": ("8.0", "9.0")},
            UsageError,
            "tensorrt_rtx 1.2 cannot build for 9.0.",
            "It builds for 8.0, 8.6. It targets RTX and Ada-class GPUs; for others (9.0, 10.0) use --flavor tensorrt.",
            "",
        ),
    ],
    ids=["parse", "build", "build-silent", "plugin", "profile", "capability"],
)
def test_each_kind_of_failure_has_its_class(library, changes, kind, says, exists, todo, monkeypatch, tmp_path):
    error = failure_of(library, monkeypatch, tmp_path, **changes)
    first, second = (RefusedNode("Op", name, ("inside",)) for name in ("the first", "the second"))
    assert type(error) is kind
    assert (error.asked, error.exists, error.todo) == (says.format(first=first, second=second), exists, todo)
    if library.errors:
        assert error.nodes == (first, second)
    if kind is ConfigError:
        assert error.faults == ("the second is not self-consistent",)


@pytest.mark.parametrize("missing", [ImportError, OSError])
def test_a_library_that_cannot_be_loaded_is_to_be_installed_again(missing, monkeypatch):
    def import_module(name):
        raise missing("libnvinfer.so.10")

    monkeypatch.setattr(vendor_build, "import_module", import_module)
    with pytest.raises(EnvironmentMissing) as caught:
        vendor_build.build(EngineRequest("rtx", "g.onnx", "g.engine", ()), lambda step: None)
    assert caught.value.asked == "tensorrt_rtx is installed but cannot be loaded: libnvinfer.so.10"
    assert caught.value.todo == f"Install it again: `{FLAVORS['rtx'].install}`."


@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [
        (MemoryError(), EnvironmentMissing, "Memory ran out.\nUse a machine with more memory, or smaller profiles."),
        (OSError(28, "No space left"), OSError, "[Errno 28] No space left: 'g.engine'"),
        (OSError("odd"), OSError, f"[Errno {errno.EIO}] odd: 'g.engine'"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_graph(raised, kind, says, monkeypatch):
    def fails(*arguments):
        raise raised

    monkeypatch.setattr(vendor_build, "_build", fails)
    with pytest.raises(kind) as caught:
        vendor_build.build(EngineRequest("rtx", "g.onnx", "g.engine", ()), lambda step: None)
    assert str(caught.value) == says
