"""A run in words: what its log and its features say, by rules that the docs list with their thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mizoo._tools import markdown
from mizoo.runs.columns import CEILING

FEWEST_EPOCHS = 3
FAR_BELOW_CHANCE = -1.0
FALLEN, FALLEN_OF_GAIN = 0.05, 0.25
STUCK = 0.02
RISING = 0.01
AT_CEILING, NEAR_CEILING = 0.95, 0.85
FEWEST_DIRECTIONS, NARROW = 2.0, 0.1
ONE_VECTOR, LOST_SPREAD = 0.001, 0.01
SURE = 2.0
FEWEST_APART = 10
GAP, FEWEST_PICKS = 10.0, 16
UNKNOWN = "cannot tell"
START = "the weights it began with"
_OF_CEILING = "of the ceiling"
_NO_LOG = "the log of its training is not here"


@dataclass(frozen=True)
class Agreement:
    """On how many pictures one kNN is right and the other wrong.

    Attributes:
        mine: right with the encoder alone.
        other: right with the other alone.
    """

    mine: int
    other: int

    @property
    def z(self) -> float:
        """McNemar's statistic, in standard errors: positive where the encoder is better."""
        apart = self.mine + self.other
        return (self.mine - self.other) / math.sqrt(apart) if apart else 0.0


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of; None for what is not known.

    Attributes:
        lines: of the log, since the views or the objective last changed.
        coordinates: of `global`.
        rank: its effective rank on pictures that it was not fitted to.
        pictures: how many those are: the rank is below that number.
        relative_spread: standard deviation of its coordinates over their root mean square.
        accuracy: of kNN, in percent, with the encoder, with random weights, on pixels, and, where the run began with
            weights that are at hand, with those.
        random, pixels, start: the encoder's kNN beside those.
        picks: in percent, how often one view finds the other view of its picture, among trained pictures and among
            others.
        picked: among how many.
    """

    lines: Sequence[Mapping[str, float]] = ()
    coordinates: int | None = None
    rank: float | None = None
    pictures: int = 0
    relative_spread: float | None = None
    accuracy: tuple[float, ...] | None = None
    random: Agreement | None = None
    pixels: Agreement | None = None
    start: Agreement | None = None
    picks: tuple[float, float] | None = None
    picked: int = 0


@dataclass(frozen=True)
class Finding:
    """The answer to one question: a word of `RULES`, the numbers behind it, and what to try."""

    question: str
    word: str
    why: str
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """What is said of a run: one word and sentence on top, and the findings that they are made of."""

    word: str
    sentence: str
    findings: tuple[Finding, ...]


# (question, word, rule), in the order in which the words are tried.
RULES: tuple[tuple[str, str, str], ...] = (
    ("learning", UNKNOWN, f"no log, or fewer than {FEWEST_EPOCHS} epochs since the views or the objective changed"),
    (
        "learning",
        "diverging",
        f"s is not finite, ends below {FAR_BELOW_CHANCE:g}, or ends below its best by more than {FALLEN} and "
        f"{FALLEN_OF_GAIN:.0%} of what it had gained",
    ),
    (
        "learning",
        "stuck",
        f"s never rose by {STUCK} above its first value, and is not at its ceiling; or bounds end below {STUCK} of "
        "their ceilings",
    ),
    ("learning", "still rising", f"s rose by {RISING} or more over the last quarter of the epochs"),
    ("learning", "level", "anything else"),
    ("collapse", UNKNOWN, f"neither a log nor features of {FEWEST_PICKS} pictures"),
    (
        "collapse",
        "collapsed",
        f"effective rank of `global` below {FEWEST_DIRECTIONS:g}; or its coordinates vary by less than {ONE_VECTOR:g} "
        f"of their size; or their spread fell below {LOST_SPREAD:g} of the largest in the log",
    ),
    (
        "collapse",
        "narrow",
        f"effective rank below {NARROW:g} of the coordinates, or of the pictures less one where these are fewer",
    ),
    ("collapse", "not collapsed", "anything else"),
    ("ceiling", UNKNOWN, "no bound with a ceiling in the log"),
    ("ceiling", "at its ceiling", f"the largest bound / ceiling of the last epoch is {AT_CEILING} or more"),
    ("ceiling", "near its ceiling", f"it is {NEAR_CEILING} or more"),
    ("ceiling", "below its ceiling", "anything else"),
    (
        "random weights",
        UNKNOWN,
        f"no labels, or fewer than {FEWEST_APART} pictures on which one is right and the other wrong",
    ),
    ("random weights", "better", f"kNN is right on more pictures, by {SURE:g} standard errors (McNemar) or more"),
    ("random weights", "worse", "the same the other way"),
    ("random weights", "no better", "anything else"),
    ("raw pixels", "", "as for random weights"),
    (START, "", "the same; only of a run with `init_from`"),
    (
        "memorising",
        UNKNOWN,
        f"fewer than {FEWEST_PICKS} pictures that were trained on, or that were not, or unknown which",
    ),
    (
        "memorising",
        "memorises",
        f"a view finds the other view of its picture among trained pictures more often than among others, by "
        f"{GAP:g} points and {SURE:g} standard errors or more",
    ),
    ("memorising", "generalises", "anything else"),
)

_ADVICE = {
    "diverging": "Lower `optimizer.learning_rate`, or add `optimizer.warmup_epochs`.",
    "stuck": "Raise `optimizer.learning_rate`; if that changes nothing, compare the pictures with their views: what "
    "has the objective to find in both?",
    "still rising": "More epochs would bring more.",
    "level": "More epochs of the same bring little: let the rate decay, or make the task harder (`data.augment`).",
    "collapsed": "Lower `optimizer.learning_rate`, `optimizer.weight_decay` or `objective.score_penalty`: the encoder "
    "gives every picture nearly the same vector.",
    "narrow": "Few directions carry everything: a prior (`objective.prior_weight`), more negatives or a smaller "
    "`encoder.global_size`.",
    "at its ceiling": "The task is solved: raise `training.batch_size`, or make the views differ more "
    "(`data.augment`), so that there is something left to learn.",
    "near its ceiling": "A larger `training.batch_size` raises the ceiling.",
    "memorises": "More pictures, stronger `data.augment`, or fewer epochs: `watch:` shows where the accuracy turns.",
    "worse": "Train longer, or begin from an entry's weights (`init_from`).",
    "no better": "Train longer, or begin from an entry's weights (`init_from`).",
}

_ADVICE_AT_START = "Train longer or at a lower `optimizer.learning_rate`, or take the encoder of `init_from` as it is."


def judge(evidence: Evidence) -> Verdict:
    """What the evidence says, by `RULES`."""
    ceiling = _ceiling(evidence)
    findings = (
        _learning(evidence, ceiling.word == "at its ceiling"),
        _collapse(evidence),
        ceiling,
        _compared("random weights", evidence.random, evidence.accuracy, 1),
        _compared("raw pixels", evidence.pixels, evidence.accuracy, 2),
        *([_compared(START, evidence.start, evidence.accuracy, 3)] if evidence.start else []),
        _memorising(evidence),
    )
    return Verdict(*_headline({each.question: each.word for each in findings}), findings)


def rules_table() -> str:
    """Every word with its rule, as a Markdown table: the one of docs/report.md."""
    return markdown.table(
        ["question", "word", "when"], [[question, word, rule] for question, word, rule in RULES], text_columns=3
    )


def _headline(words: dict[str, str]) -> tuple[str, str]:
    """The word on top and its sentence: the worst of what was found."""
    learning, ceiling = words["learning"], words["ceiling"]
    beaten = [other for other in ("random weights", "raw pixels", START) if words.get(other) in ("no better", "worse")]
    if words["collapse"] == "collapsed":
        return "collapsed", "It gives every picture nearly the same vector: there is nothing in it to use."
    if learning == "diverging":
        return "diverging", "It got worse while it trained, and is not worth using as it is."
    if words["memorising"] == "memorises":
        return "memorising", "It knows the pictures it was trained on, and much less about others."
    if learning == "stuck":
        return "stuck", "It has hardly learned anything since it began."
    if ceiling == "at its ceiling":
        return "at its ceiling", "It has solved the task it was given: a harder one could teach it more."
    if beaten:
        return "no better", f"It is not seen to be better than {' or '.join(beaten)}."
    good = [words[other] == "better" for other in ("random weights", "raw pixels")]
    if learning in ("still rising", "level") or all(good):
        more = " and is still learning" if learning == "still rising" else ""
        known = " It is better than random weights and raw pixels." if all(good) else ""
        return "healthy", f"It has learned{more}, and nothing speaks against it.{known}"
    return UNKNOWN, "There is too little to judge it by: see below what is missing."


def _shares(lines: Sequence[Mapping[str, float]]) -> tuple[list[float], str]:
    """s of each epoch: the mean of bound / ceiling; without a bound the fall of the loss as a share of the first."""
    bounds = [key for key in lines[0] if key + CEILING in lines[0] and key in lines[-1]]
    if bounds:
        shares = [
            sum(line[key] / line[key + CEILING] for key in bounds) / len(bounds)
            for line in lines
            if all(key in line and line.get(key + CEILING) for key in bounds)
        ]
        return shares, _OF_CEILING
    losses = [line["loss"] for line in lines if "loss" in line]
    size = max(abs(losses[0]), 1e-9) if losses else 1.0
    return [(losses[0] - loss) / size for loss in losses], "of the first loss"


def _learning(evidence: Evidence, solved: bool) -> Finding:
    lines = evidence.lines
    shares, unit = _shares(lines) if lines else ([], "")
    if len(shares) < FEWEST_EPOCHS:
        known = f"{len(shares)} epochs of one kind in the log; {FEWEST_EPOCHS} are needed" if lines else _NO_LOG
        return Finding("learning", UNKNOWN, known)
    first, last, best = shares[0], shares[-1], max(shares)
    why = f"{_percent(first)} {unit} at first, {_percent(last)} now"
    fallen = best - last
    if not math.isfinite(last) or last < FAR_BELOW_CHANCE or fallen > max(FALLEN, FALLEN_OF_GAIN * (best - first)):
        return _finding("learning", "diverging", why + f", {_percent(best)} at best")
    at_chance = unit == _OF_CEILING and last < STUCK
    if (best - first < STUCK and not solved) or at_chance:
        return _finding("learning", "stuck", why)
    before = shares[-1 - max(1, len(shares) // 4)]
    if last - before >= RISING:
        return _finding("learning", "still rising", why)
    return _finding("learning", "level", why)


def _collapse(evidence: Evidence) -> Finding:
    spreads = [line["spread"] for line in evidence.lines if "spread" in line]
    rank = evidence.rank
    if rank is None and evidence.lines:
        rank = evidence.lines[-1].get("effective_rank")
    if rank is None:
        return Finding("collapse", UNKNOWN, f"neither a log nor features of {FEWEST_PICKS} pictures")
    of = f" of {evidence.coordinates}" if evidence.coordinates else ""
    why = f"effective rank {rank:.1f}{of}"
    if evidence.relative_spread is not None:
        why += f", coordinates vary by {_percent(evidence.relative_spread)} of their size"
    same = evidence.relative_spread is not None and evidence.relative_spread < ONE_VECTOR
    lost = bool(spreads) and spreads[-1] <= LOST_SPREAD * max(spreads)
    # One coordinate has one direction at most.
    if same or lost or (rank < FEWEST_DIRECTIONS and evidence.coordinates != 1):
        return _finding("collapse", "collapsed", why)
    most = min(evidence.coordinates or 0, evidence.pictures - 1)  # the rank of a log is of a batch of unknown size
    if evidence.rank is not None and rank < NARROW * most:
        return _finding("collapse", "narrow", why)
    return _finding("collapse", "not collapsed", why)


def _ceiling(evidence: Evidence) -> Finding:
    last = evidence.lines[-1] if evidence.lines else {}
    shares = {key: last[key] / last[key + CEILING] for key in last if last.get(key + CEILING)}
    if not shares:
        return Finding("ceiling", UNKNOWN, "no bound with a ceiling in the log" if last else _NO_LOG)
    key = max(shares, key=shares.__getitem__)
    why = f"{key} {last[key]:.2f} of at most {last[key + CEILING]:.2f} nats"
    if shares[key] >= AT_CEILING:
        return _finding("ceiling", "at its ceiling", why)
    return _finding("ceiling", "near its ceiling" if shares[key] >= NEAR_CEILING else "below its ceiling", why)


def _compared(other: str, counts: Agreement | None, accuracy: tuple[float, ...] | None, i: int) -> Finding:
    if counts is None or accuracy is None:
        return Finding(other, UNKNOWN, "the pictures have no labels")
    why = f"kNN {accuracy[0]:.1f} % against {accuracy[i]:.1f} %, {counts.z:+.1f} standard errors"
    if counts.mine + counts.other < FEWEST_APART:
        return Finding(other, UNKNOWN, why + f"; they differ on {counts.mine + counts.other} pictures")
    word = "better" if counts.z >= SURE else "worse" if counts.z <= -SURE else "no better"
    if other == START and word != "better":
        return Finding(other, word, why, _ADVICE_AT_START)
    return _finding(other, word, why)


def _memorising(evidence: Evidence) -> Finding:
    if evidence.picks is None or evidence.picked < FEWEST_PICKS:
        return Finding("memorising", UNKNOWN, "too few pictures that it was trained on and that it was not")
    trained, others = evidence.picks
    gap = trained - others
    error = math.sqrt(sum(max(each * (100 - each), 100.0) / evidence.picked for each in evidence.picks))
    why = f"finds the other view among {evidence.picked} trained pictures {trained:.0f} %, among others {others:.0f} %"
    memorised = gap >= GAP and gap >= SURE * error
    return _finding("memorising", "memorises" if memorised else "generalises", why)


def _finding(question: str, word: str, why: str) -> Finding:
    return Finding(question, word, why, _ADVICE.get(word, ""))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if abs(share) >= 0.001 else f"{100 * share:.3f} %"
