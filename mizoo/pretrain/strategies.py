"""The strategies of a run by name."""

from __future__ import annotations

import keras

from mizoo._tools.group import Group
from mizoo.errors import UserError
from mizoo.pretrain.placement import Placement

STRATEGIES = ("auto", "single", "mirrored", "multiworker")


def choose(strategy: str, scan: bool | None, group: Group | None, seed: int = 0) -> Placement:
    """The placement of a strategy on the backend in use.

    Args:
        strategy: one of `STRATEGIES`. "auto": several hosts where there are some, else all devices of this one.
        scan: on JAX, whether an epoch is trained as one scan, which takes one device; None: where there is one
            accelerator.
        group: the workers, if there are several.
        seed: of the run.

    Raises:
        UserError: for a scan with several devices or on TensorFlow.
    """
    if keras.backend.backend() == "tensorflow":
        if scan:
            raise UserError("`scan` trains an epoch as one compiled scan on JAX: set KERAS_BACKEND=jax.")
        from mizoo.pretrain import _tensorflow

        return _tensorflow.choose(strategy, group)
    from mizoo.pretrain import _jax

    return _jax.choose(strategy, scan, group, seed)
