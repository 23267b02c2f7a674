"""The backend of Keras, for what runs on TensorFlow and JAX alone."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

from mizoo.errors import UserError

PRODUCT = 1024  # rows and columns of the matrices that are multiplied to compare precisions
CLEARLY_FASTER = 1.25  # times: a step has more than products, and casts in bfloat16 besides


def training_backend(what: str, otherwise: str = "") -> str:
    """The backend in use: "tensorflow" or "jax".

    Args:
        what: what runs on these two, for the message: "Training runs".
        otherwise: another way out, for the end of the message.

    Raises:
        UserError: for another backend.
    """
    import keras

    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise UserError(
            f"{what} on the TensorFlow and JAX backends. Received: KERAS_BACKEND={backend!r}. "
            f"Set KERAS_BACKEND to 'tensorflow' or 'jax' before Keras is imported{otherwise}."
        )
    return backend


@contextlib.contextmanager
def dtype_policy(policy: str) -> Iterator[None]:
    """Build and compile under a policy of Keras, or "auto", `precision_here`; the one before comes back afterwards."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision_here() if policy == "auto" else policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def precision_here() -> str:
    """What `precision: auto` is on this machine: `mixed_bfloat16` where its products are clearly faster."""
    from mizoo._tools import hardware

    return "mixed_bfloat16" if hardware.accelerator() or _bfloat16_gain() > CLEARLY_FASTER else "float32"


@functools.cache
def _bfloat16_gain() -> float:
    """How many times as fast as in float32 this processor multiplies matrices in bfloat16, measured in a moment."""
    import keras

    best = {}
    for dtype in ("float32", "bfloat16"):
        matrix = keras.ops.ones((PRODUCT, PRODUCT), dtype)
        seconds = []
        for _ in range(6):  # the first one prepares
            began = time.perf_counter()
            keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.matmul(matrix, matrix)[0, 0], "float32"))
            seconds.append(time.perf_counter() - began)
        best[dtype] = min(seconds)
    return best["float32"] / best["bfloat16"]


def fast_precision() -> str:
    """The policy that trains fastest: `mixed_bfloat16` on TensorFlow (oneDNN's fast path on CPU), else `float32`."""
    import keras

    return "mixed_bfloat16" if keras.backend.backend() == "tensorflow" else "float32"
