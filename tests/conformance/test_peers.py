"""Peers are judged by the same shapes and positions, and a wrong graph of theirs is called wrong."""

import json
from pathlib import Path

import pytest
import torch

from conformance.families import peers
from conformance.families.census import select
from conformance.families.tiny import tiny_model


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("peer") / "peer.onnx"
    model = tiny_model(select(["llama"])[0])
    model.config.use_cache = False
    peers.by_torch(model, peers.calls(model)["traced"], path, 18)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_right_graph_is_right(graph: Path) -> None:
    model = tiny_model(select(["llama"])[0])
    failed, worst = peers.compare(graph, peers.calls(model), model)
    assert failed == {}
    assert 0 < worst < 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_graph_with_another_rotation_is_wrong(graph: Path) -> None:
    model = tiny_model(select(["llama"])[0])
    with torch.no_grad():
        model.model.rotary_emb.inv_freq.mul_(0.9)
    failed, _ = peers.compare(graph, peers.calls(model), model)
    assert {"traced", "strided", "left padding"} <= failed.keys()
    assert "single token" not in failed  # at position 0 nothing turns


def test_an_exporter_that_raises_has_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_):
        raise RuntimeError("outer") from ValueError("No graph today.")

    monkeypatch.setattr(peers, "PEERS", {"someone": failing})
    peers.judge_peer(select(["llama"])[0], "someone", tmp_path)
    result = json.loads((tmp_path / "peer.json").read_text())
    assert (result["verdict"], result["reason"]) == ("refused", "ValueError: No graph today.")


def test_padded_rows_count_their_tokens() -> None:
    feeds = peers._padded((3, 5))
    assert feeds["attention_mask"].tolist() == [[1] * 5, [0] + [1] * 4, [0, 0, 1, 1, 1]]
    assert feeds["position_ids"][2].tolist() == [0, 0, 0, 1, 2]
