"""Terms of an objective between the locations of a map and vectors: every bound, by every critic."""

from __future__ import annotations

from typing import Any

from keras import ops

from mizoo import bounds, critics
from mizoo.objectives.base import Objective


class PairTerms(Objective):
    """An objective that scores features (N, L, U) with vectors (M, U) and maximises a bound of their information.

    Attributes:
        bound: "infonce", "jsd" or "dv".
        critic: "encode_dot" or "concat_conv".
        clip: c of the soft clip c tanh(score / c), or None.
        score_penalty: weight of the mean squared score before the clip.
        local_critic: the networks of the terms of pairs, by term with "concat_conv".
        global_critic: those of the term of the whole map.
    """

    bound: str
    critic: str
    clip: float | None
    score_penalty: float
    local_critic: dict[str, Any]
    global_critic: dict[str, Any]

    def _mean_terms(self, term: str, sides: list, positives, negatives: str):
        """The value to maximise, what is logged, and the mean squared score, each the mean over the directions."""
        by_direction = [self._bound_terms(term, *side, positives, negatives) for side in sides]
        value = sum(each[0] for each in by_direction) / len(by_direction)
        logs = {key: sum(each[1][key] for each in by_direction) / len(by_direction) for key in by_direction[0][1]}
        return value, logs, sum(each[2] for each in by_direction) / len(by_direction)

    def _bound_terms(self, term: str, features, vectors, positives, negatives: str):
        """Of one direction, from features (N, L, U) and vectors (N, U) of this replica."""
        columns = self.gather(vectors)
        if self.bound == "infonce":
            value, square = self._infonce(term, features, vectors, columns, positives, negatives)
            return value, {f"{term}_mi": value}, square
        of_scores = bounds.joint_and_log_mean if self.bound == "dv" else _jsd_and_nwj
        blocks = self._either(
            (features, columns),
            lambda: ops.stack(self._statistics(term, of_scores, features, columns, positives))[None],
            lambda: self._by_rows(term, of_scores, features, columns, positives),
        )
        *means, square = ops.unstack(ops.mean(blocks, axis=0), 3)
        if self.bound == "jsd":
            return means[0], {f"{term}_mi": means[1], f"{term}_jsd": means[0]}, square
        log_mean = ops.logsumexp(blocks[:, 1]) - ops.log(ops.cast(ops.shape(blocks)[0], "float32"))
        log_mean = self._over_replicas(log_mean, ops.cast(ops.shape(features)[0], "float32"))
        return means[0] - log_mean, {f"{term}_mi": means[0] - log_mean}, square

    def _infonce(self, term: str, features, vectors, columns, positives, negatives: str):
        """The mean of InfoNCE over the kinds of negatives, and the mean squared score."""
        every = self.gather(features) if negatives != "images" else features

        def at_once():
            """From all scores."""
            values, squares = [], []
            if negatives != "locations":
                scores, square = self._scores(term, features, columns)  # (N, L, M)
                values.append(bounds.infonce(scores, positives))
                squares.append(square)
            if negatives != "images":
                if not values or every is not features:  # on one device both kinds have the same scores
                    scores, square = self._scores(term, every, vectors)  # (M, L, N)
                    squares.append(square)
                values.append(bounds.infonce_locations(ops.transpose(scores, (2, 1, 0)), positives))
            return ops.stack([sum(each) / len(each) for each in (values, squares)])

        def by_block():
            """From the scores of one block after the other."""
            kinds = []
            if negatives != "locations":
                kinds.append(self._by_rows(term, _infonce, features, columns, positives))
            if negatives != "images":
                kinds.append(self._by_columns(term, _infonce_locations, every, vectors, positives))
            return sum(ops.mean(blocks, axis=0) for blocks in kinds) / len(kinds)

        return ops.unstack(self._either((features, columns), at_once, by_block), 2)

    def _either(self, sides, at_once, by_block):
        """By blocks where the scores of an encode-and-dot critic would pass the budget, otherwise all at once."""
        if self.critic == "encode_dot" and critics.blocks.needed(*sides, self.batch_rows, self.replicas):
            return by_block()
        return at_once()

    def _by_rows(self, term: str, of_scores, rows, columns, positives):
        """`_statistics` of blocks of rows (N, L, U) with all columns (M, U): (blocks, K)."""

        def of_block(columns, rows, positives):
            """Of one block: (K,)."""
            return ops.stack(self._statistics(term, of_scores, rows, columns, positives))

        return critics.blocks.mapped(of_block, columns, rows, positives)

    def _by_columns(self, term: str, of_scores, rows, columns, positives):
        """`_statistics` of all rows (N, L, U) with blocks of columns (M, U), which pick among them: (blocks, K)."""

        def of_block(rows, columns, positives):
            """Of one block: (K,)."""
            turned = lambda scores, positives: of_scores(ops.transpose(scores, (2, 1, 0)), positives)  # noqa: E731
            return ops.stack(self._statistics(term, turned, rows, columns[:, 0], positives))

        return critics.blocks.mapped(of_block, rows, columns[:, None], positives)

    def _statistics(self, term: str, of_scores, rows, columns, positives) -> list:
        """What `of_scores` makes of the scores and the positives, and the mean square of the scores: scalars."""
        scores, square = self._scores(term, rows, columns)
        return [*of_scores(scores, positives), square]

    def _over_replicas(self, log_mean, rows):
        """The logarithm of the mean over the batch, from that over this replica's rows."""
        log_sums = self.gather((log_mean + ops.log(rows))[None])
        return ops.logsumexp(log_sums) - ops.log(ops.sum(self.gather(rows[None])))

    def _scores(self, term: str, rows, columns):
        """Scores (N, L, M), clipped, and the mean square of the raw ones."""
        if self.critic == "encode_dot":
            scores = critics.dot_scores(rows, columns)
        else:
            scores = (self.global_critic if term == "global" else self.local_critic)[term].pair(rows, columns)
        square = ops.mean(ops.square(scores)) if self.score_penalty else ops.zeros((), "float32")
        return scores if self.clip is None else self.clip * ops.tanh(scores / self.clip), square


def _infonce(scores, positives) -> tuple:
    return (bounds.infonce(scores, positives),)


def _infonce_locations(scores, positives) -> tuple:
    return (bounds.infonce_locations(scores, positives),)


def _jsd_and_nwj(scores, positives) -> tuple:
    return bounds.jsd(scores, positives), bounds.nwj(scores, positives)
