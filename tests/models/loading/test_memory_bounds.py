import pytest

from rope_deploy.errors import EnvironmentMissing, ModelError, UsageError
from rope_deploy.models.loading.memory_bounds import require_memory

PLAIN = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 48}


def test_usual_sizes_pass(tmp_path):
    require_memory(PLAIN, str(tmp_path), 4)


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer"])
def test_more_layers_than_any_model_has_are_refused(tmp_path, key):
    with pytest.raises(UsageError, match="states 2147483648 layers"):
        require_memory({**PLAIN, key: 2**31}, str(tmp_path), 4)


def test_a_matrix_larger_than_all_weights_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 1000)
    with pytest.raises(ModelError, match="vocab_size 1000000000000"):
        require_memory({**PLAIN, "vocab_size": 10**12}, str(tmp_path), 4)


def test_a_matrix_larger_than_memory_is_refused_where_the_weights_are_elsewhere():
    with pytest.raises(EnvironmentMissing, match="GB"):
        require_memory({**PLAIN, "vocab_size": 10**15}, "owner/name", 4)
