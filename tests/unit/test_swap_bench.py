"""The rule by which the benchmark of swaps judges an answer: who was in use while a request was under way."""

import pytest

from bench.swap import Answer, Change, seen, wrong

# v1 from the beginning; v2 from a call between 10.0 and 10.1; v1 again from a call between 20.0 and 20.1.
IN_USE = [Change("v1", 0.0, 0.0), Change("v2", 10.0, 10.1), Change("v1", 20.0, 20.1)]


@pytest.mark.parametrize(
    ("version", "sent", "received", "is_wrong"),
    [
        ("v1", 5.0, 5.1, False),
        ("v2", 9.8, 9.9, True),  # before anybody called
        ("v2", 9.9, 10.05, False),  # while the call was under way
        ("v1", 11.0, 11.1, False),  # in use until 10.1, less than a second before it was asked for
        ("v1", 11.2, 11.3, True),
        ("v2", 21.0, 21.2, False),
        ("v2", 21.2, 21.3, True),
        ("v1", 21.2, 21.3, False),
        ("v3", 21.2, 21.3, True),
    ],
)
def test_an_answer_is_by_who_was_in_use_until_a_second_before(
    version: str, sent: float, received: float, is_wrong: bool
) -> None:
    assert wrong([Answer(version, sent, received)], IN_USE) == int(is_wrong)


def test_a_change_is_seen_with_the_first_answer_by_its_version_after_the_call() -> None:
    answers = [Answer("v1", 1.0, 1.1), Answer("v1", 10.2, 10.3), Answer("v2", 10.4, 10.6), Answer("v2", 10.7, 10.8)]
    assert seen(IN_USE[1], IN_USE[2], answers) == pytest.approx(0.6)
    assert seen(IN_USE[2], None, answers) is None
    assert seen(IN_USE[1], IN_USE[2], [Answer("v2", 20.1, 20.2)]) is None  # only after the next change
