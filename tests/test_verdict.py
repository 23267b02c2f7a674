"""The words of a verdict follow from numbers by the rules that the docs list."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mizoo.report.page.verdict import (
    AT_CEILING,
    FEWEST_DIRECTIONS,
    RULES,
    START,
    STUCK,
    Agreement,
    Evidence,
    judge,
    rules_table,
)

DOCS = Path(__file__).parents[1] / "docs" / "report.md"
CEILING = 4.0


def log(*shares: float, spread: float = 1.0, rank: float = 20.0) -> list[dict[str, float]]:
    """Lines whose bound is these shares of its ceiling."""
    return [
        {
            "epoch": i + 1.0,
            "loss": -CEILING * share,
            "local_mi": CEILING * share,
            "local_mi_ceiling": CEILING,
            "spread": spread,
            "effective_rank": rank,
        }
        for i, share in enumerate(shares)
    ]


def word(question: str, **evidence) -> str:
    return next(each.word for each in judge(Evidence(**evidence)).findings if each.question == question)


def test_the_table_of_the_docs_is_that_of_the_rules():
    assert rules_table() in DOCS.read_text(encoding="utf-8")


def test_nothing_known_is_no_verdict():
    verdict = judge(Evidence())
    assert verdict.word == "cannot tell"
    assert {each.word for each in verdict.findings} == {"cannot tell"}
    assert all(each.why for each in verdict.findings)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.1, 0.2), "cannot tell"),
        ((0.1, 0.2, 0.3, 0.4), "still rising"),
        ((0.1, 0.5, 0.5, 0.5, 0.5), "level"),
        ((0.1, 0.1, 0.1, 0.1 + 0.9 * STUCK), "stuck"),
        ((0.1, 0.1, 0.1, 0.1 + 1.1 * STUCK), "still rising"),
        ((-0.03, -0.01, 0.0, 0.0), "stuck"),  # it came to chance, and no further
        ((0.1, 0.5, 0.6, 0.3), "diverging"),
        ((0.1, 0.5, 0.6, 0.55), "level"),
        ((-0.5, -0.6, -0.7), "diverging"),
        ((-9.0, -9.0, -9.0), "diverging"),
        ((-0.1, -0.1, -0.1), "stuck"),  # where a critic without training begins
        ((0.97, 0.97, 0.97), "level"),
    ],
)
def test_whether_it_learns_is_read_from_the_share_of_the_ceiling(shares, expected):
    assert word("learning", lines=log(*shares)) == expected


def test_without_a_bound_the_loss_is_read():
    def losses(*values: float) -> list[dict[str, float]]:
        return [{"epoch": i + 1.0, "loss": value} for i, value in enumerate(values)]

    assert word("learning", lines=losses(5, 4, 3, 2)) == "still rising"
    assert word("learning", lines=losses(5, 5, 5, 4.99)) == "stuck"
    assert word("learning", lines=losses(5, 4, 8, 20)) == "diverging"
    assert word("learning", lines=losses(5, 4, 3, math.nan)) == "diverging"
    assert word("ceiling", lines=losses(5, 4, 3)) == "cannot tell"


def test_collapse_shows_in_rank_size_or_a_lost_spread_and_rank_counts_beside_the_coordinates():
    assert word("collapse", lines=log(0.1, 0.1, 0.1, rank=FEWEST_DIRECTIONS - 0.1)) == "collapsed"
    assert word("collapse", rank=30.0, coordinates=64, relative_spread=0.0005) == "collapsed"
    lines = [*log(0.1, 0.1, spread=1.0), *log(0.1, spread=0.005)]
    assert word("collapse", lines=lines) == "collapsed"
    few = {"coordinates": 256, "relative_spread": 0.5, "pictures": 20}  # whose rank is below 20
    assert word("collapse", rank=15.0, **few) == "not collapsed"
    many = {"pictures": 2000, "coordinates": 64, "relative_spread": 0.5}
    assert word("collapse", rank=5.0, **many) == "narrow"
    assert word("collapse", rank=30.0, coordinates=64, relative_spread=0.5) == "not collapsed"
    assert word("collapse", rank=1.0, coordinates=1, relative_spread=0.5) == "not collapsed"


@pytest.mark.parametrize(
    ("share", "expected"),
    [(AT_CEILING, "at its ceiling"), (0.9, "near its ceiling"), (0.5, "below its ceiling")],
)
def test_the_ceiling_is_that_of_the_last_epoch(share, expected):
    assert word("ceiling", lines=log(0.1, 0.2, share)) == expected


def test_better_takes_two_standard_errors_of_the_pictures_on_which_one_is_right_alone():
    assert Agreement(30, 10).z == pytest.approx(20 / math.sqrt(40))
    known = {"accuracy": (60.0, 50.0, 40.0)}
    assert word("random weights", random=Agreement(30, 10), **known) == "better"
    assert word("random weights", random=Agreement(22, 18), **known) == "no better"
    assert word("raw pixels", pixels=Agreement(10, 30), **known) == "worse"
    assert word("raw pixels", pixels=Agreement(6, 0), **known) == "cannot tell"


def test_memorising_takes_a_gap_beyond_chance():
    assert word("memorising", picks=(95.0, 40.0), picked=64) == "memorises"
    assert word("memorising", picks=(95.0, 91.0), picked=512) == "generalises"
    assert word("memorising", picks=(60.0, 45.0), picked=20) == "generalises"  # within two standard errors
    assert word("memorising", picks=(95.0, 10.0), picked=8) == "cannot tell"


def test_the_worst_finding_is_the_word_on_top():
    rising = log(0.1, 0.3, 0.5)
    assert judge(Evidence(lines=rising)).word == "healthy"
    assert judge(Evidence(lines=log(0.1, 0.3, 0.97))).word == "at its ceiling"
    assert judge(Evidence(lines=log(0.1, 0.3, 0.97), picks=(99, 20), picked=100)).word == "memorising"
    assert judge(Evidence(lines=log(0.1, 0.4, -0.3), picks=(99, 20), picked=100)).word == "diverging"
    assert judge(Evidence(lines=log(0.1, 0.4, -0.3, rank=1.1))).word == "collapsed"
    beaten = judge(Evidence(lines=rising, pixels=Agreement(10, 50), accuracy=(30.0, 20.0, 40.0)))
    assert beaten.word == "no better" and "raw pixels" in beaten.sentence


def test_every_word_that_is_said_has_a_rule_and_a_fault_has_an_advice():
    words = {rule[1] for rule in RULES}
    for evidence in (
        Evidence(lines=log(0.1, 0.1, 0.1, rank=1.0)),
        Evidence(lines=log(0.1, 0.4, -0.3), picks=(99, 20), picked=100),
        Evidence(lines=log(0.1, 0.4, 0.99), random=Agreement(1, 40), accuracy=(10, 40, 40)),
    ):
        for finding in judge(evidence).findings:
            assert finding.word in words
            if finding.word in ("diverging", "stuck", "collapsed", "memorises", "at its ceiling", "worse"):
                assert finding.advice


@pytest.mark.parametrize(
    ("mine", "other", "expected"), [(60, 40, "better"), (59, 41, "no better"), (40, 60, "worse"), (5, 4, "cannot tell")]
)
def test_a_run_is_held_against_the_weights_that_it_began_with(mine, other, expected):
    healthy = {"lines": log(0.1, 0.5, 0.5, 0.5), "random": Agreement(90, 10), "pixels": Agreement(90, 10)}
    evidence = Evidence(**healthy, accuracy=(70.0, 40.0, 30.0, 68.0), start=Agreement(mine, other))
    assert word(START, **vars(evidence)) == expected
    assert judge(evidence).word == ("no better" if expected in ("no better", "worse") else "healthy")
    assert START not in {each.question for each in judge(Evidence(**healthy)).findings}
