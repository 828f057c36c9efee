"""A rotation inside an operator that cannot be written in standard operators stops a rewrite, by name."""

import onnx
import pytest
from onnx import helper

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.reading.prepare_foreign_file import read_foreign
from rope_deploy.graph.rotating_operators import CONTRIB, OPERATORS, ROTARY_EMBEDDING
from tests.audit.files import CONFIG, Decoder, stored, write

KEPT = [(one.domain, one.name) for one in OPERATORS if one.name != ROTARY_EMBEDDING]


@pytest.mark.parametrize(("domain", "name"), [*KEPT, (CONTRIB, "FutureAttention")], ids="-".join)
def test_a_rotation_that_is_not_taken_apart_is_refused(tmp_path, domain, name):
    path = write(tmp_path / "model.onnx", Decoder(tables=stored(CONFIG)))
    model = onnx.load(path)
    last = next(node for node in model.graph.node if "y" in node.output)
    last.output[:] = ["before"]
    inputs = ["before"] * 4
    model.graph.node.append(helper.make_node(name, inputs, ["y"], "hidden", domain=domain, do_rotary=1))
    if domain == "rope_deploy":
        model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, path)
    with pytest.raises(UnmatchedRotation, match=rf"hidden \({name}\) .*which is not taken apart"):
        read_foreign(path, newest=23)
