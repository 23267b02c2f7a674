"""Critics of plain vectors: every x against every y."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from mizoo._tools.checks import check_choice, check_seed, check_size, check_widths
from mizoo.errors import UserError

VECTOR_CRITICS = ("separable", "bilinear", "inner", "concat")


def vector_critic(
    kind: str, rows: int, columns: int, hidden: Sequence[int] = (128, 128), embedding: int = 32, seed: int = 0
) -> VectorCritic:
    """A critic of two plain vectors: called on x (N, rows) and y (M, columns), it gives scores (N, 1, M).

    A new critic gives zero for every pair.

    Args:
        kind: "separable": g(x) . h(y) with two networks. "bilinear": x W y. "inner": a learned factor times x . y.
            "concat": a network on [x, y].
        rows: d_x.
        columns: d_y; for "inner" equal to d_x.
        hidden: widths of the hidden layers of the networks, ReLU between.
        embedding: of "separable", the size of g(x) and h(y).
        seed: of the initial weights.

    Raises:
        UserError: for an unknown kind, sizes that are no whole numbers from 1 on, no hidden layer, a seed below 0, or
            an inner product of vectors of different sizes.
    """
    check_choice(kind, "critic", VECTOR_CRITICS)
    rows, columns = check_size(rows, "rows"), check_size(columns, "columns")
    embedding = check_size(embedding, "embedding")
    seed = check_seed(seed)
    if kind in ("separable", "concat"):
        hidden = check_widths(hidden, "hidden")
    if kind == "inner" and rows != columns:
        raise UserError(
            f"The critic 'inner' takes vectors of one size. Received: {rows} and {columns} columns. "
            "Use 'bilinear', which maps one side onto the other."
        )
    if kind == "separable":
        return Separable(rows, columns, tuple(hidden), embedding, seed)
    if kind == "concat":
        return Concat(rows, columns, tuple(hidden), seed)
    return Bilinear(rows, columns) if kind == "bilinear" else Inner()


class VectorCritic(layers.Layer):
    """Scores of vectors: what belongs to each side alone (`sides`), then what takes both (`pair`).

    Attributes:
        pair_size: numbers that are formed for each pair on the way to its score, for a subclass to set.
    """

    pair_size = 1

    def __init__(self) -> None:
        super().__init__(dtype="float32")
        self.built = True  # a subclass makes its variables in the constructor

    def sides(self, x, y):
        """x (N, d_x) and y (M, d_y) to (N, U) and (M, U)."""
        return x, y

    def pair(self, rows, columns):
        """(N, U) and (M, U), or K of them for each row (N, K, U), to scores (N, 1, M) or (N, 1, K)."""
        if len(columns.shape) == 2:
            return ops.matmul(rows, ops.transpose(columns))[:, None]
        return ops.matmul(rows[:, None], ops.transpose(columns, (0, 2, 1)))

    def call(self, x, y, candidates: int | None = None):
        """Scores, float32.

        Args:
            x: (N, d_x).
            y: (M, d_y).
            candidates: None: every row against every column, (N, 1, M). K: row i of as many columns against column i
                and the K that follow it (cyclic), (N, 1, K + 1), so that the positive is always column 0. It saves
                work where the scores of all pairs cost much.
        """
        rows, columns = self.sides(x, y)
        if candidates is not None:
            columns = ops.stack([ops.roll(columns, -k, axis=0) for k in range(candidates + 1)], axis=1)
        return self.pair(rows, columns)


class Separable(VectorCritic):
    """g(x) . h(y) with two networks; h starts at zero, so the scores do."""

    def __init__(self, rows: int, columns: int, hidden: tuple[int, ...], embedding: int, seed: int) -> None:
        super().__init__()
        self.row_network = Network(rows, hidden, embedding, seed)
        self.column_network = Network(columns, hidden, embedding, seed + len(hidden) + 1, zero=True)

    def sides(self, x, y):
        """g(x) and h(y)."""
        return self.row_network(x), self.column_network(y)


class Bilinear(VectorCritic):
    """x W y; W starts at zero."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.matrix = self.add_weight(shape=(rows, columns), initializer="zeros", name="matrix")

    def sides(self, x, y):
        """x W and y."""
        return ops.matmul(x, self.matrix), y


class Inner(VectorCritic):
    """A learned factor, 0 at first, times x . y."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = self.add_weight(shape=(), initializer="zeros", name="factor")

    def sides(self, x, y):
        """x times the factor, and y."""
        return self.factor * x, y


class Concat(VectorCritic):
    """A network on [x, y], whose last layer starts at zero.

    Its first layer is linear in both, so it is applied to each side once, and only the sums are formed for all pairs.
    """

    def __init__(self, rows: int, columns: int, hidden: tuple[int, ...], seed: int) -> None:
        super().__init__()
        scale = (2.0 / (rows + columns)) ** 0.5  # He, as one layer on d_x + d_y inputs would start
        row_start = keras.initializers.RandomNormal(stddev=scale, seed=seed)
        column_start = keras.initializers.RandomNormal(stddev=scale, seed=seed + 1)
        self.row_layer = layers.Dense(hidden[0], kernel_initializer=row_start, dtype="float32")
        self.column_layer = layers.Dense(hidden[0], kernel_initializer=column_start, use_bias=False, dtype="float32")
        self.row_layer.build((None, rows))
        self.column_layer.build((None, columns))
        self.rest = Network(hidden[0], hidden[1:], 1, seed + 2, zero=True)
        self.pair_size = max(hidden)

    def sides(self, x, y):
        """The two terms of the first layer."""
        return self.row_layer(x), self.column_layer(y)

    def pair(self, rows, columns):
        """The network on the sums."""
        columns = columns[None] if len(columns.shape) == 2 else columns
        return self.rest(ops.relu(rows[:, None] + columns))[:, None, :, 0]


class Network(layers.Layer):
    """Dense layers with ReLU between, on the last axis of inputs (..., inputs): (..., outputs), float32.

    Args:
        inputs: size of the last axis of the input.
        hidden: widths of the hidden layers.
        outputs: size of the last axis of the output.
        seed: of the initial weights.
        zero: start the last layer at zero.

    Raises:
        UserError: for sizes that are no whole numbers from 1 on, and a seed below 0.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, seed: int, zero: bool = False) -> None:
        super().__init__(dtype="float32")
        inputs, outputs = check_size(inputs, "inputs"), check_size(outputs, "outputs")
        hidden, seed = check_widths(hidden, "hidden", fewest=0), check_seed(seed)
        self.parts = []  # checkpoints hold the weights under this name
        for i, width in enumerate((*hidden, outputs)):
            last = i == len(hidden)
            start = keras.initializers.GlorotUniform(seed + i) if last else keras.initializers.HeNormal(seed + i)
            layer = layers.Dense(
                width,
                activation=None if last else "relu",
                kernel_initializer="zeros" if last and zero else start,
                dtype="float32",
            )
            layer.build((None, inputs))
            self.parts.append(layer)
            inputs = width
        self.built = True

    def call(self, x):
        """The outputs."""
        for layer in self.parts:
            x = layer(x)
        return x
