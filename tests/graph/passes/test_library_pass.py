"""What a library raises for a graph is an error for the user; ours and the system's pass as they are."""

import pytest

from rope_deploy.errors import UnmatchedRotation, UsageError
from rope_deploy.graph.passes.library_pass import refusing


def test_an_error_of_a_library_is_refused_with_its_reason():
    stated = "Its shapes cannot be found: the graph is not what"
    with pytest.raises(UsageError, match=stated) as caught, refusing("Its shapes cannot be found"):
        raise KeyError("axis")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [UnmatchedRotation("none"), MemoryError(), FileNotFoundError()])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, refusing("Its shapes cannot be found"):
        raise error
    assert caught.value is error
