"""The encoders: shapes of their endpoints, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from mizoo import encoders
from mizoo.errors import UserError


def shapes(encoder) -> dict[str, tuple]:
    return {key: tuple(value.shape[1:]) for key, value in encoder.output.items()}


def test_resnet18_has_the_endpoints_and_the_size_of_the_paper(rng):
    encoder = encoders.resnet18()
    assert shapes(encoder) == {"local": (8, 8, 256), "conv": (4, 4, 512), "fc": (512,), "global": (128,)}
    body = sum(
        int(np.prod(v.shape)) for v in encoder.trainable_variables if "head" not in v.path and "output" not in v.path
    )
    assert body == 11_168_832  # ResNet-18 with a 3x3 stem, without its classifier


def test_a_narrow_resnet18_takes_any_width_and_side(rng):
    encoder = encoders.resnet18(width=0.25, head_size=32, global_size=16, side=64)
    assert shapes(encoder) == {"local": (16, 16, 64), "conv": (8, 8, 128), "fc": (128,), "global": (16,)}
    features = encoder(rng.integers(0, 256, (2, 64, 64, 3), dtype="uint8"))
    mean = ops.convert_to_numpy(features["conv"]).mean(axis=(1, 2))
    np.testing.assert_allclose(ops.convert_to_numpy(features["fc"]), mean, atol=1e-4)


@pytest.mark.parametrize("arguments, words", [({"width": 0.0}, "width"), ({"side": 30}, "side"), ({"side": 4}, "side")])
def test_what_is_no_resnet_is_named(arguments, words):
    with pytest.raises(UserError, match=words):
        encoders.resnet18(**arguments)


def test_conv32_has_the_endpoints_of_the_paper():
    assert shapes(encoders.conv32()) == {"local": (8, 8, 128), "conv": (4, 4, 256), "fc": (1024,), "global": (64,)}
    with pytest.raises(UserError, match="widths"):
        encoders.conv32(widths=(4, 4))
