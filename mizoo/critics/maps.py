"""Critics of feature maps: every location of every picture against the vectors of all pictures."""

from __future__ import annotations

import keras
from keras import layers, ops

from mizoo._tools.checks import check_real, check_size


class NearIdentity(keras.initializers.Initializer):
    """A matrix whose leading square is the identity, plus uniform noise: the shortcut starts as a copy of its input."""

    def __init__(self, noise: float = 0.01, seed: int | None = None) -> None:
        self.noise = check_real(noise, "noise", minimum=0)
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

    Raises:
        UserError: for sizes that are no whole numbers from 1 on.
    """
    features, width = check_size(features, "features"), check_size(width, "width")
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

    Raises:
        UserError: for sizes that are no whole numbers from 1 on.
    """
    features, width = check_size(features, "features"), check_size(width, "width")
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


class ConcatConvolve(layers.Layer):
    """The concat-and-convolve critic (Hjelm et al. 2018, appendix A.2): a network on [local feature, vector].

    Two hidden layers with ReLU and one score, by 1x1 convolutions, for each pair of a location and a vector. (The
    paper's critic of whole maps is the same with one location.) The first layer is linear in both sides, so it is
    applied to each side once (`sides`) and only the sums are formed for the pairs (`pair`).

    With N pictures of L locations, M vectors and width U, the hidden layer of all pairs takes 2 N L M U^2 operations
    forwards and three times that backwards, where dot products take 2 N L M U. It is formed for one vector at a time
    and again on the way back, so the memory grows with N L U and with the N L M scores, not with N L M U.

    Args:
        features: channels of the local features.
        size: size of the vectors.
        width: U, width of the hidden layers (the paper: 512).
        name: name of the layer.

    Raises:
        UserError: for sizes that are no whole numbers from 1 on.
    """

    def __init__(self, features: int, size: int, width: int = 512, name: str | None = None) -> None:
        super().__init__(name=name)
        features, size, width = check_size(features, "features"), check_size(size, "size"), check_size(width, "width")
        # He, as one layer on features + size inputs would start.
        start = {"stddev": (2.0 / (features + size)) ** 0.5}
        self.row_layer = layers.Dense(width, kernel_initializer=keras.initializers.RandomNormal(**start), name="rows")
        self.column_layer = layers.Dense(
            width, kernel_initializer=keras.initializers.RandomNormal(**start), use_bias=False, name="columns"
        )
        self.hidden = layers.Dense(width, kernel_initializer="he_normal", name="hidden")
        self.score = layers.Dense(1, dtype="float32", name="score")
        for layer, inputs in (
            (self.row_layer, features),
            (self.column_layer, size),
            (self.hidden, width),
            (self.score, width),
        ):
            layer.build((None, inputs))
        self.built = True

    def sides(self, features, vectors):
        """The two terms of the first layer: (N, L, C) and (M, ..., D) to (N, L, U) and (M, ..., U), float32."""
        return ops.cast(self.row_layer(features), "float32"), ops.cast(self.column_layer(vectors), "float32")

    def pair(self, rows, columns):
        """Scores (N, L, M), float32, of the terms of the first layer: (N, L, U) and (M, U)."""
        locations, width = rows.shape[1:]
        count, dtype = ops.shape(rows)[0], self.compute_dtype
        # Everything with a gradient is an argument: what a rematerialised function captures gets none on TensorFlow.
        tensors = [ops.cast(t, dtype) for t in (ops.reshape(rows, (-1, width)), self.hidden.kernel, self.hidden.bias)]
        tensors.append(ops.cast(self.score.kernel, "float32"))
        scores_of = keras.remat(_scores_of_vector)
        by_vector = ops.map(lambda column: scores_of(column, *tensors), ops.cast(columns, dtype))  # (M, N L)
        scores = ops.reshape(ops.transpose(by_vector), (count, locations, -1))
        return scores + ops.cast(self.score.bias, "float32")

    def call(self, features, vectors):
        """Scores (N, L, M), float32, of features (N, L, C) and vectors (M, D)."""
        return self.pair(*self.sides(features, vectors))


def _scores_of_vector(column, rows, kernel, bias, score):
    """Scores (R,) of one vector's term (U,) with the terms (R, U) of all rows; the last product is in float32."""
    hidden = ops.relu(ops.matmul(ops.relu(rows + column), kernel) + bias)
    return ops.matmul(ops.cast(hidden, "float32"), score)[:, 0]
