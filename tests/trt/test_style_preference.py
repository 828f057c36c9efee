import pytest

from rope_deploy.styles import STYLES
from rope_deploy.trt.flavors import FLAVORS
from rope_deploy.trt.style_preference import preferred_styles


@pytest.mark.parametrize("flavor", FLAVORS.values(), ids=lambda flavor: flavor.name)
@pytest.mark.parametrize("plugin", [False, True])
def test_every_target_has_an_order_of_all_styles_each_once_and_with_a_reason(flavor, plugin):
    choices = preferred_styles(flavor, plugin=plugin)
    assert sorted(choice.style for choice in choices) == sorted(STYLES)
    assert all(choice.why for choice in choices)


def test_the_plugin_comes_first_only_where_its_library_is_given_and_can_be_loaded():
    first = {
        (name, plugin): preferred_styles(FLAVORS[name], plugin=plugin)[0].style
        for name in FLAVORS
        for plugin in (False, True)
    }
    assert first == {
        ("tensorrt", True): "plugin",
        ("tensorrt", False): "onnx",
        ("rtx", True): "onnx",
        ("rtx", False): "onnx",
    }


def test_the_order_of_each_flavour():
    without_library = ["onnx", "tables", "plugin", "contrib"]
    for flavor in FLAVORS.values():
        assert [choice.style for choice in preferred_styles(flavor)] == without_library
    library = preferred_styles(FLAVORS["tensorrt"], plugin=True)
    assert [choice.style for choice in library] == ["plugin", "onnx", "tables", "contrib"]
    assert library[0].why != preferred_styles(FLAVORS["tensorrt"])[2].why
