"""mizoo/_tools/progress.py: what long work says where there is no terminal."""

from __future__ import annotations

import pytest

from mizoo._tools import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_is_told_where_the_work_stands_after_a_minute_without_a_word(clock, capsys):
    with progress.Progress() as display:
        line = display.start("features of [a], fc", 4000)
        line.advance(1000)
        clock[0] += progress.QUIET - 1
        line.advance(1000)
        display.print("a word")
        clock[0] += progress.QUIET - 1
        line.advance(500)
        clock[0] += 2
        line.advance(500)
        line.advance(500)
    assert capsys.readouterr().err.split("\n")[:3] == ["a word", "features of [a], fc  3,000 of 4,000  1 min left", ""]


def test_work_of_unknown_length_says_what_is_done(clock, capsys):
    with progress.Progress() as display:
        line = display.start("reading")
        clock[0] += progress.QUIET + 1
        line.advance(7)
    assert "reading  7\n" in capsys.readouterr().err


def test_what_is_not_shown_says_nothing(clock, capsys):
    with progress.Progress(False) as display:
        line = display.start("reading", 10)
        clock[0] += progress.QUIET + 1
        line.advance(7)
        display.print("a word")
    assert capsys.readouterr() == ("", "")
