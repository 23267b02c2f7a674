"""Critics: two sets of features in, a score matrix out."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from mizoo.errors import UserError

VECTOR_CRITICS = ("separable", "bilinear", "inner", "concat")


class NearIdentity(keras.initializers.Initializer):
    """A matrix whose leading square is the identity, plus uniform noise: the shortcut starts as a copy of its input."""

    def __init__(self, noise: float = 0.01, seed: int | None = None) -> None:
        self.noise = noise
        self.seed = seed

    def __call__(self, shape, dtype=None):
        """Return a tensor of `shape` (inputs, outputs)."""
        noise = keras.random.uniform(shape, -self.noise, self.noise, dtype=dtype, seed=self.seed)
        return noise + ops.eye(*shape, dtype=dtype)

    def get_config(self) -> dict:
        """The arguments of the constructor."""
        return {"noise": self.noise, "seed": self.seed}


def projection(features: int, width: int, name: str) -> keras.Model:
    """One side of the encode-and-dot critic (Hjelm et al. 2018, appendix A.2): (..., features) to (..., width).

    Dense, batch normalisation, ReLU, dense, plus a bias-free linear shortcut that starts near the identity, then
    layer normalisation. On a map of locations a dense layer is the paper's 1x1 convolution.

    Args:
        features: size of the last axis of the input, which has the shape (N, L, features).
        width: size of the last axis of the output (U in the paper: 2048).
        name: prefix of the names of the layers.
    """
    x = keras.Input((None, features), name=f"{name}_input")
    h = layers.Dense(width, use_bias=False, name=f"{name}_hidden")(x)
    h = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(h)
    h = layers.ReLU(name=f"{name}_relu")(h)
    h = layers.Dense(width, name=f"{name}_output")(h)
    shortcut = layers.Dense(width, use_bias=False, kernel_initializer=NearIdentity(), name=f"{name}_shortcut")(x)
    h = layers.Add(name=f"{name}_sum")([h, shortcut])
    # The scores are formed in float32, so the last layer gives float32 under any policy.
    h = layers.LayerNormalization(epsilon=1e-5, dtype="float32", name=f"{name}_layer_norm")(h)
    return keras.Model(x, h, name=name)


def dot_scores(rows, columns):
    """Scaled dot products of every location of every row with every column, in float32.

    The factor 1/sqrt(U) keeps scores of layer-normalised features at unit scale, whatever the width.

    Args:
        rows: (N, L, U).
        columns: (M, U).

    Returns:
        Scores (N, L, M), float32.
    """
    rows, columns = ops.cast(rows, "float32"), ops.cast(columns, "float32")
    width = rows.shape[-1]
    n, locations, m = ops.shape(rows)[0], ops.shape(rows)[1], ops.shape(columns)[0]
    flat = ops.matmul(ops.reshape(rows, (-1, width)), ops.transpose(columns))
    return ops.reshape(flat, (n, locations, m)) * (width**-0.5)


def log_bilinear(features: int, width: int, name: str) -> keras.layers.Layer:
    """W of the log-bilinear critic f(z, c) = exp(z^T W c) (van den Oord et al. 2018, eq. 3): c (..., features) to W c.

    Args:
        features: size of the last axis of the contexts c.
        width: size of the last axis of the features z.
        name: name of the layer.
    """
    layer = layers.Dense(width, use_bias=False, name=name)
    layer.build((None, features))
    return layer


def aligned_scores(rows, columns):
    """Scaled dot products of every row with every column at the same location, in float32.

    Args:
        rows: (N, L, U).
        columns: (M, L, U).

    Returns:
        Scores (N, L, M), float32: location l of row i against location l of column j, over sqrt(U).
    """
    rows, columns = ops.cast(rows, "float32"), ops.cast(columns, "float32")
    by_location = ops.matmul(ops.transpose(rows, (1, 0, 2)), ops.transpose(columns, (1, 2, 0)))  # (L, N, M)
    return ops.transpose(by_location, (1, 0, 2)) * (rows.shape[-1] ** -0.5)


def within_scores(rows, columns):
    """Scaled dot products of every location of a row with every location of the column of the same index, in float32.

    Args:
        rows: (N, L, U).
        columns: (N, S, U).

    Returns:
        Scores (N, L, S), float32, over sqrt(U).
    """
    rows, columns = ops.cast(rows, "float32"), ops.cast(columns, "float32")
    return ops.matmul(rows, ops.transpose(columns, (0, 2, 1))) * (rows.shape[-1] ** -0.5)


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
        UserError: for an unknown kind, no hidden layer, or an inner product of vectors of different sizes.
    """
    if kind not in VECTOR_CRITICS:
        raise UserError(f"`critic` is one of {', '.join(VECTOR_CRITICS)}. Received: critic={kind!r}")
    if kind in ("separable", "concat") and (not hidden or min(hidden) < 1):
        raise UserError(f"`hidden` holds the width of one hidden layer at least. Received: hidden={tuple(hidden)}")
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
    """Scores of vectors: what belongs to each side alone (`sides`), then what takes both (`pair`)."""

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
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, seed: int, zero: bool = False) -> None:
        super().__init__(dtype="float32")
        self.parts = []
        for i, width in enumerate((*hidden, outputs)):
            last = i == len(hidden)
            start = keras.initializers.GlorotUniform(seed + i) if last else keras.initializers.HeNormal(seed + i)
            part = layers.Dense(
                width,
                activation=None if last else "relu",
                kernel_initializer="zeros" if last and zero else start,
                dtype="float32",
            )
            part.build((None, inputs))
            self.parts.append(part)
            inputs = width
        self.built = True

    def call(self, x):
        """The outputs."""
        for part in self.parts:
            x = part(x)
        return x
