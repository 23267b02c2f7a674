"""What every encoder ends with."""

from __future__ import annotations

from keras import layers


def named(endpoints: dict) -> dict:
    """The endpoints behind identity layers that name them and lift them out of a mixed-precision policy to float32."""
    return {key: layers.Activation("linear", dtype="float32", name=key)(value) for key, value in endpoints.items()}
