import numpy as np

from rope_deploy.runtimes import Memoized


class Counting:
    name, taps = "counting", True

    def __init__(self):
        self.asked, self.entered = [], 0

    def run(self, feeds, taps=False):
        self.asked.append(taps)
        return {"logits": feeds["x"] * 2.0}

    def __enter__(self):
        self.entered += 1
        return self

    def __exit__(self, *_):
        self.entered -= 1


def feeds(*values, dtype=np.int64):
    return {"x": np.array([values], dtype)}


def test_the_same_question_is_asked_once():
    inner = Counting()
    runtime = Memoized(inner)
    first, second = (runtime.run(feeds(1, 2)) for _ in range(2))
    assert len(inner.asked) == 1
    np.testing.assert_array_equal(first["logits"], second["logits"])


def test_other_values_shapes_types_names_and_taps_are_other_questions():
    inner = Counting()
    runtime = Memoized(inner)
    questions = [feeds(1, 2), feeds(2, 1), feeds(1), feeds(1, 2, dtype=np.int32), {"x": np.array([[1], [2]])}]
    for question in questions:
        np.testing.assert_array_equal(runtime.run(question)["logits"], question["x"] * 2.0)
    runtime.run(feeds(1, 2), taps=True)
    runtime.run({**feeds(1, 2), "y": np.zeros((1, 0))})
    assert len(inner.asked) == len(questions) + 2


def test_a_strided_array_is_the_same_question_as_its_copy():
    inner = Counting()
    runtime = Memoized(inner)
    wide = np.arange(12).reshape(2, 6)
    runtime.run({"x": wide[:, ::2]})
    runtime.run({"x": wide[:, ::2].copy()})
    assert len(inner.asked) == 1


def test_what_came_first_stays_when_the_room_is_full():
    inner = Counting()
    runtime = Memoized(inner, room=2 * 8)
    for value in (1, 2, 3, 1, 2, 3):
        assert runtime.run(feeds(value))["logits"] == 2 * value
    assert len(inner.asked) == 4  # the third was never kept


def test_taking_an_answer_out_of_the_result_does_not_take_it_out_of_memory():
    runtime = Memoized(Counting())
    runtime.run(feeds(1)).pop("logits")
    assert "logits" in runtime.run(feeds(1))


def test_it_is_open_as_long_as_the_runtime_behind_it():
    inner = Counting()
    with Memoized(inner) as runtime:
        assert inner.entered == 1 and (runtime.name, runtime.taps) == ("counting", True)
    assert inner.entered == 0


class Half(Counting):
    """A reference in a half type: it knows its truth, and what it might have answered."""

    def __init__(self):
        super().__init__()
        self.exact = Counting()

    def perturbed(self, feeds, seed):
        self.asked.append(seed)
        return {"logits": feeds["x"] * 2.0 + seed}


def test_the_truth_and_what_chance_does_are_asked_once_too():
    inner = Half()
    runtime = Memoized(inner)
    for _ in range(2):
        assert runtime.run(feeds(3))["logits"] == 6
        assert runtime.exact.run(feeds(3))["logits"] == 6
        assert [runtime.perturbed(feeds(3), seed)["logits"].item() for seed in (0, 1)] == [6, 7]
    assert len(inner.asked) == 3 and len(inner.exact.asked) == 1


def test_a_reference_in_float32_is_its_own_truth():
    inner = Half()
    inner.exact = None
    assert Memoized(inner).exact is None
