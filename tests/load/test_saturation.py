"""Which level of a step test is one too many."""

from __future__ import annotations

from freehold.load.saturation import Count, Level, saturated


def _level(load: float, outputs: int, ended: int = 100, failed: int = 0) -> Level:
    return Level(f"{load:g}", load, Count(outputs, ended, failed), 10.0)


def test_twice_the_load_must_bring_a_quarter_more() -> None:
    before = _level(8, 1000)
    assert saturated(before, _level(16, 1260), open_loop=False) is None
    why = saturated(before, _level(16, 1240), open_loop=False)
    assert why == "100% more load than at 8 brought +24% output"
    # A small step is held to a small gain.
    assert saturated(before, _level(9, 1040), open_loop=False) is None


def test_an_open_loop_must_answer_half_of_what_was_added() -> None:
    before = _level(8, 1000)
    assert saturated(before, _level(16, 1600), open_loop=True) is None
    assert saturated(before, _level(16, 1400), open_loop=True)
    # Of a handful of arrivals chance alone decides.
    assert saturated(_level(8, 1000, ended=9), _level(16, 1400), open_loop=True) is None


def test_a_level_that_is_refused_is_one_too_many() -> None:
    assert saturated(None, _level(8, 500, failed=9), False) is None
    assert saturated(None, _level(8, 500, failed=10), False) == "10 of 100 requests failed"


def test_the_first_level_is_never_too_many_for_its_speed() -> None:
    assert saturated(None, _level(1, 3), open_loop=False) is None


def test_counts_of_processes_add_up() -> None:
    assert sum([Count(1, 2, 3), Count(4, 5, 6)], Count()) == Count(5, 7, 9)
    assert Count(5, 7, 9) - Count(1, 2, 3) == Count(4, 5, 6)
