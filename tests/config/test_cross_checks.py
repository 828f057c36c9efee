"""What no single value shows: each rule fires on its breach and is silent without it."""

import pytest

from rope_deploy.config import decode_config
from rope_deploy.errors import ConfigError

MODEL = '[model]\nsource = "a"\n'


def faults(text):
    with pytest.raises(ConfigError) as caught:
        decode_config(text)
    return caught.value.faults


@pytest.mark.parametrize(
    ("breach", "kept", "says"),
    [
        ("[model]", MODEL, "name the model"),
        (MODEL + "package = 'p'\nfile = 'f'", "[model]\npackage = 'p'\nfile = 'f'", "two models"),
        (MODEL + "file = 'f'", MODEL, "two models"),
        ("[model]\npackage = 'p'", "[model]\npackage = 'p'\nfile = 'f'", "belong together"),
        ("[model]\npackage = 'p'\nfile = '../f'", "[model]\npackage = 'p'\nfile = 'a/f'", "inside the package"),
        ("[model]\npackage = 'p'\nfile = '/f'", "[model]\npackage = 'p'\nfile = 'f..x'", "inside the package"),
        (MODEL + "[export]\nopset = 22", MODEL + "[export]\nopset = 23", "needs opset 23"),
        (MODEL + "[export]\nopset = 17", MODEL + "[export]\nopset = 17\nstyles = ['tables']", "needs opset 23"),
        (MODEL + "[export]\nstyles = ['onnx', 'onnx']", MODEL + "[export]\nstyles = ['onnx']", "onnx is there 2 times"),
        (MODEL + "[check]\nruntimes = ['ort', 'ort']", MODEL + "[check]\nruntimes = ['ort']", "ort is there 2 times"),
        (
            MODEL + "[build]\nstyle = 'plugin'\n[export]\nstyles = ['onnx']",
            MODEL + "[build]\nstyle = 'onnx'\n[export]\nstyles = ['onnx']",
            "not among the exported styles",
        ),
        (
            MODEL + "[build]\nflavor = 'tensorrt'\ncompute_capabilities = ['8.9']",
            MODEL + "[build]\nflavor = 'rtx'\ncompute_capabilities = ['8.9']",
            "builds for the GPU it runs on",
        ),
        (
            MODEL + "[build]\nprofiles = { batch = [1, 4, 2] }",
            MODEL + "[build]\nprofiles = { batch = [1, 1, 1] }",
            "must ascend",
        ),
        (
            MODEL + "dtype = 'float16'\n[check]\nlogits_tolerance = 0.1",
            MODEL + "dtype = 'float32'\n[check]\nlogits_tolerance = 0.1",
            "is held against itself in float32",
        ),
        (MODEL + "[check]\nruntimes = ['trt']", MODEL + "[check]\nruntimes = ['trt']\n[build]", "needs an engine"),
        (
            MODEL + "[export]\nmax_position = 143\n[bench]",
            MODEL + "[export]\nmax_position = 144\n[bench]",
            "make 144 positions",
        ),
        (
            MODEL + "[export]\nmax_position = 16\n[generate]\nprompts = ['a']",
            MODEL + "[export]\nmax_position = 17\n[generate]\nprompts = ['a']",
            "exceed",
        ),
        (
            MODEL + "[gates]\nmax_latency_ratio = 2",
            MODEL + "[gates]\nmax_latency_ratio = 2\n[bench]",
            "nothing is timed",
        ),
        (
            MODEL + "[export]\nmax_position = 143\n[bench]\nprompt = [8, 128]",
            MODEL + "[export]\nmax_position = 144\n[bench]\nprompt = [8, 128]",
            "make 144 positions",
        ),
        (
            MODEL + "[bench]\nruntimes = ['trt']",
            MODEL + "[bench]\nruntimes = ['trt']\n[build]",
            "[bench] runtimes: trt needs",
        ),
        (MODEL + "[bench]\nprompt = [8, 8]", MODEL + "[bench]\nprompt = [8, 9]", "8 is there 2 times"),
        (
            MODEL + "[gates]\nmax_slowdown = 2\n[bench]",
            MODEL + "[gates]\nmax_slowdown = 2\n[bench]\nbaseline = 'b.json'",
            "nothing to hold it against",
        ),
        (
            MODEL + "[bench]\nbaseline = 'b.json'\nrounds = 4",
            MODEL + "[bench]\nbaseline = 'b.json'\nrounds = 5",
            "4 are too few",
        ),
        (
            MODEL + "[bench]\nbaseline = 'b.json'\nruntimes = ['torch']",
            MODEL + "[bench]\nbaseline = 'b.json'\nruntimes = ['torch', 'ort']",
            "ratios relate two contestants",
        ),
        (
            MODEL + "[bench]\nbaseline = 'b.json'\nruntimes = ['ort']\n[export]\nstyles = ['onnx']",
            MODEL + "[bench]\nbaseline = 'b.json'\nruntimes = ['ort']\n[export]\nstyles = ['onnx', 'tables']",
            "ratios relate two contestants",
        ),
        (
            MODEL + "[export]\ncache = false\n[bench]",
            MODEL + "[export]\ncache = false\n[bench]\nnew = 0",
            "decoding is timed with the cache",
        ),
        (
            MODEL + "[export]\ncache = false\n[generate]\nprompts = ['a']",
            MODEL + "[generate]\nprompts = ['a']",
            "generated with the cache",
        ),
    ],
)
def test_a_rule_fires_on_its_breach_and_only_then(breach, kept, says):
    (fault,) = faults(breach)
    assert says in fault
    decode_config(kept)


def test_a_rule_waits_while_its_table_has_faults_of_its_own():
    assert faults(MODEL + "[build]\nstyle = 'plugin'\nflavour = 'rtx'\n[export]\nstyles = ['onnx']") == (
        "[build] flavour: there is no such key. Did you mean flavor?",
    )
