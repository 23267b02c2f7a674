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


SIZES = {
    "conv32": ("fc_size", "global_size", "channels"),
    "resnet18": ("head_size", "global_size", "side", "channels"),
    "three_stage": ("head_size", "global_size", "side", "channels"),
    "patch_grid": ("side", "patch", "width", "size", "channels", "blocks"),
    "series": ("features", "width", "context_size", "kernel"),
    "waveform": ("context_size",),
    "log_mel": ("sampling_rate", "mels", "frame_size", "context_size"),
}
LISTS = {
    **dict.fromkeys(("conv32", "three_stage", "log_mel"), ("widths",)),
    "waveform": ("kernels", "strides", "widths"),
}


@pytest.mark.parametrize("encoder", SIZES)
def test_sizes_that_are_none_are_refused_by_name(encoder):
    build = getattr(encoders, encoder)
    given = {"features": 2} if encoder == "series" else {}
    for argument in SIZES[encoder]:
        for value in (None, "8", -1, 1.5, float("nan"), True, [8], 1 << 70):
            with pytest.raises(UserError, match=f"`{argument}`"):
                build(**(given | {argument: value}))
        if argument != "blocks":  # a count of layers
            with pytest.raises(UserError, match=f"`{argument}` is the length of an axis"):
                build(**(given | {argument: 1 << 31}))
    for argument in LISTS.get(encoder, ()):
        for value in ("abc", (), 1.5, (8, 8.5, 8), (8, 0, 8), (8, None, 8)):
            with pytest.raises(UserError, match=f"`{argument}`"):
                build(**{argument: value})


@pytest.mark.parametrize("encoder", SIZES)
def test_names_that_keras_does_not_take_are_refused(encoder):
    given = {"features": 2} if encoder == "series" else {}
    for name in (3, "a/b", "", ["a"]):
        with pytest.raises(UserError, match="`name` is letters, digits"):
            getattr(encoders, encoder)(**given, name=name)


@pytest.mark.parametrize("width", [None, "1", float("nan"), float("inf"), True, [1.0]])
def test_a_width_that_is_no_factor_is_named(width):
    with pytest.raises(UserError, match="`width`"):
        encoders.resnet18(width=width)


def test_a_rate_of_sounds_without_kernels_is_named():
    for rate in (11025, None, [8000]):
        with pytest.raises(UserError, match="`sampling_rate`"):
            encoders.waveform(rate)
    assert encoders.waveform(None, kernels=[10, 8], strides=[5, 4], widths=[4, 6]).output["local"].shape[-1] == 6
