from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.errors import PositionOutOfRange, UsageError
from rope_deploy.runtimes import greedy, open_ort
from tests.runtimes.toy import ROWS, Faults, Twin, write_toy


@pytest.fixture(scope="module", params=["onnx", "tables", "contrib"])
def runtime(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate") / "toy"
    write_toy(folder, request.param)
    with open_ort(folder, threads=1) as opened:
        yield opened


class Recorder:
    """Passes calls on and keeps how many tokens each had."""

    name, taps = "recorder", False

    def __init__(self, runtime):
        self.runtime, self.lengths = runtime, []

    def run(self, feeds, taps=False):
        self.lengths.append(feeds["input_ids"].shape[1])
        return self.runtime.run(feeds, taps)


def test_every_style_generates_what_the_twin_generates(runtime):
    prompt = (3, 14, 15, 9, 26)
    assert greedy(runtime, runtime.manifest, prompt, 12) == greedy(Twin(), runtime.manifest, prompt, 12)


def test_another_theta_generates_something_else(tmp_path):
    manifest = write_toy(tmp_path / "toy", "onnx", Faults(theta={0: 2.0, 1: 2.0}))
    prompt = (3, 14, 15, 9, 26)
    with open_ort(tmp_path / "toy") as faulty:
        assert greedy(faulty, manifest, prompt, 20) != greedy(Twin(), manifest, prompt, 20)


def test_cache_feeds_one_token_a_step(runtime):
    recorder = Recorder(runtime)
    greedy(recorder, runtime.manifest, (1, 2, 3), 4)
    assert recorder.lengths == [3, 1, 1, 1]


def test_graph_without_cache_reads_the_text_anew(runtime):
    manifest = replace(
        runtime.manifest, cache=False, inputs=runtime.manifest.inputs[:3], outputs=runtime.manifest.outputs[:1]
    )
    recorder = Recorder(Twin())
    assert greedy(recorder, manifest, (1, 2, 3), 4) == greedy(runtime, runtime.manifest, (1, 2, 3), 4)
    assert recorder.lengths == [3, 4, 5, 6]


def test_generation_ends_with_a_stop_token(runtime):
    tokens = greedy(runtime, runtime.manifest, (1, 2, 3), 8)
    stop = tokens[3]
    assert greedy(runtime, runtime.manifest, (1, 2, 3), 8, stop={stop}) == tokens[: tokens.index(stop) + 1]


def test_generation_past_the_table_is_refused(runtime):
    with pytest.raises(PositionOutOfRange):
        greedy(runtime, runtime.manifest, np.arange(ROWS), 2)


def test_encoder_does_not_generate(runtime):
    with pytest.raises(UsageError, match="encoder"):
        greedy(runtime, replace(runtime.manifest, task="encoder"), (1,), 1)


def test_no_prompt_is_refused(runtime):
    with pytest.raises(UsageError, match="no token"):
        greedy(runtime, runtime.manifest, (), 1)
