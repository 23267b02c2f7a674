"""Optimisers that Keras does not have as they are needed here."""

from __future__ import annotations

import re

import keras
from keras import ops

from mizoo._tools import keras_private

_NO_KERNEL = re.compile(r"(.*_)?bias|gamma|beta")  # whatever the rank: the bias of a GRU is (2, units)


@keras.saving.register_keras_serializable("mizoo")
class Muon(keras.optimizers.Muon):
    """Muon for networks of convolutions: orthogonalised momentum for every kernel, Adam for all else (Jordan 2024).

    Keras's own `Muon` takes 2-D variables only and hands every convolution to Adam, and its scaling reads the first two
    axes of a kernel. Here a kernel (..., in, out) of any rank from 2 on is the matrix (... in, out), in the
    Newton-Schulz iteration and in the scaling. Biases and gains of normalisations (of any rank, by their names: `bias`,
    `..._bias`, `gamma`, `beta`) and other variables of rank below 2 go to Adam, with `adam_lr_ratio` times the rate.

    The update of a kernel is the rate times sqrt(out / min(rest, out)) times a matrix whose singular values are all
    about 1, so that its Frobenius norm is about rate x sqrt(out). With `fixed_norm` every kernel is held at the norm
    sqrt(out): then the rate is the size of a step relative to the kernel, whatever its shape, and weight decay would
    change nothing. That is for kernels whose scale a normalisation behind them takes out.

    Args:
        learning_rate: of the kernels, a number or a schedule.
        momentum: of the running mean of the gradients (Nesterov's).
        fixed_norm: whether kernels are held at the Frobenius norm sqrt(out).
        adam_lr_ratio: rate of Adam over that of the kernels.
        adam_beta_1: of Adam.
        adam_beta_2: of Adam.
        ns_steps: Newton-Schulz iterations.
        **kwargs: other arguments of `keras.optimizers.Muon`; its weight decays are 0 unless given. Kernels whose path
            an expression of `exclude_layers` finds go to Adam, and with `exclude_embeddings` (the default) embeddings:
            so is an output layer kept off the fixed norm.
    """

    def __init__(
        self,
        learning_rate=0.05,
        momentum: float = 0.9,
        fixed_norm: bool = True,
        adam_lr_ratio: float = 0.04,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.98,
        ns_steps: int = 5,
        **kwargs,
    ) -> None:
        settings = {"weight_decay": 0.0, "adam_weight_decay": 0.0, "rms_rate": None, **kwargs}
        super().__init__(
            learning_rate,
            momentum=momentum,
            adam_lr_ratio=adam_lr_ratio,
            adam_beta_1=adam_beta_1,
            adam_beta_2=adam_beta_2,
            ns_steps=ns_steps,
            **settings,
        )
        self.fixed_norm = fixed_norm

    def _should_use_adamw(self, variable) -> bool:
        """Whether Adam trains a variable, as it is no kernel or excluded: the one hook that Keras leaves for it."""
        return (
            len(variable.shape) < 2
            or _NO_KERNEL.fullmatch(variable.path.rpartition("/")[2]) is not None
            or (self.exclude_embeddings and "embedding" in variable.path.lower())
            or any(re.search(expression, variable.path) for expression in self.exclude_layers)
        )

    def update_step(self, gradient, variable, learning_rate) -> None:
        """One update of one variable."""
        if self.fixed_norm and not keras_private.trained_by_adam(self, variable):
            norm = ops.sqrt(ops.sum(ops.square(variable)))
            self.assign(variable, variable * (variable.shape[-1] ** 0.5 / (norm + 1e-7)))
        super().update_step(ops.cast(gradient, variable.dtype), variable, ops.cast(learning_rate, variable.dtype))

    def lr_adjust(self, x):
        """The update of a kernel, scaled by sqrt(out / min(rest, out))."""
        rest, out = _matrix_shape(x)
        return x * (out / min(rest, out)) ** 0.5

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """A kernel's momentum (..., in, out) with all singular values of its matrix (... in, out) near 1.

        The products run in bfloat16 where the backend is fast at them (Jordan 2024): the iteration needs few digits.
        """
        matrix = ops.reshape(x, _matrix_shape(x))
        half = ops.cast(matrix / (ops.sqrt(ops.sum(ops.square(matrix))) + 1e-7), "bfloat16")
        half = super().zeropower_via_newtonschulz5(half, steps)
        return ops.reshape(ops.cast(half, x.dtype), x.shape)

    def get_config(self) -> dict:
        """The arguments of the constructor."""
        return {**super().get_config(), "fixed_norm": self.fixed_norm}


def _matrix_shape(kernel) -> tuple[int, int]:
    """Rows and columns of a kernel (..., in, out) as a matrix."""
    rest = 1
    for size in kernel.shape[:-1]:
        rest *= size
    return rest, kernel.shape[-1]
