"""Arrays that a caller passes are checked by one contract wherever they come in, and refused by name and remedy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mizoo import data, teachers
from mizoo.data import pictures, sound_files, sounds
from mizoo.data.batching import Batches, Windows
from mizoo.errors import UserError
from mizoo.evaluate import evaluate
from mizoo.evaluate.features import features, pixels
from mizoo.mi import estimate

PICTURES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
SOUNDS = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 400)).astype(np.float32)
ROWS = np.random.default_rng(0).standard_normal((60, 2))


class Encoder:
    """A callable that looks like an encoder of pictures."""

    name = "encoder"
    input_shape = (None, 32, 32, 3)
    endpoints = ("fc",)

    def __call__(self, images):
        return {"fc": np.asarray(images, np.float32).mean(axis=(1, 2))}


def hidden(values, count: int = 1):
    """The same values, the first ones masked."""
    mask = np.zeros(values.shape, bool)
    mask.reshape(-1)[:count] = True
    return np.ma.masked_array(values, mask)


ENTRANCES = {
    "check_images": (lambda x: pictures.check_images(x, (32, 32, 3)), PICTURES),
    "check_samples": (sound_files.check_samples, SOUNDS),
    "check_clips": (sound_files.check_clips, SOUNDS),
    "load": (data.load, PICTURES),
    "load of sounds": (data.load, SOUNDS),
    "load of a data set": (lambda x: data.load(data.Dataset("mine", x)), PICTURES),
    "load of a list": (lambda x: data.load([x[0], x[1]]), PICTURES),
    "batches": (lambda x: data.batches(x, batch_size=4), PICTURES),
    "Batches": (lambda x: Batches(x, 4), PICTURES),
    "Windows": (lambda x: Windows(tuple(x), 100, 4), SOUNDS),
    "targets of batches": (lambda x: data.batches(PICTURES, batch_size=4, targets=x), SOUNDS),
    "sounds": (lambda x: sounds.load(sounds.Sounds("mine", tuple(x), 8000)), SOUNDS),
    "labels": (lambda x: data.Dataset("mine", PICTURES, x), np.arange(8)),
    "evaluate": (lambda x: evaluate(Encoder(), x, protocols=("effective_rank",), progress=False), PICTURES),
    "features": (lambda x: features(Encoder(), x), PICTURES),
    "pixels": (pixels, PICTURES),
    "teachers": (lambda x: teachers.targets([("simclr_cifar10", "fc")], x), PICTURES),
    "estimate, x": (lambda x: estimate(x, ROWS), ROWS),
    "estimate, y": (lambda x: estimate(ROWS, x), ROWS),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_masked_values_are_refused_wherever_arrays_come_in(entrance):
    call, values = ENTRANCES[entrance]
    with pytest.raises(UserError, match="masked values"):
        call(hidden(values))


@pytest.mark.parametrize("entrance", ["check_images", "check_samples", "load", "batches", "labels", "pixels"])
def test_a_mask_that_masks_nothing_passes(entrance):
    call, values = ENTRANCES[entrance]
    result = call(hidden(values, 0))
    assert not isinstance(getattr(result, "images", getattr(result, "labels", result)), np.ma.MaskedArray)


class Tensor:
    """What torch does: a tensor that needs gradients, or has a type of its own, does not become an array."""

    def __init__(self, values, error: Exception) -> None:
        self.values, self.error, self.shape, self.ndim = values, error, values.shape, values.ndim

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows):
        return Tensor(self.values[rows], self.error)

    def __array__(self, dtype=None, copy=None):
        raise self.error


GRADIENTS = RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
HALF = TypeError("Got unsupported ScalarType BFloat16")


@pytest.mark.parametrize("error", [GRADIENTS, HALF], ids=["gradients", "bfloat16"])
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_tensors_that_make_no_array_are_refused_with_the_remedy(entrance, error):
    call, values = ENTRANCES[entrance]
    with pytest.raises(UserError, match=r"Tensor says .*detach\(\)"):
        call(Tensor(values, error))


@pytest.mark.parametrize("entrance", [name for name in ENTRANCES if name not in ("load of a list", "check_clips")])
@pytest.mark.parametrize("values", ["uneven", "objects", "none"])
def test_uneven_lists_objects_and_nothing_are_refused_by_name(entrance, values):
    call, _ = ENTRANCES[entrance]
    given = {"uneven": [[1.0, 2.0], [3.0]], "objects": np.array([object()] * 8), "none": None}[values]
    if values == "none" and entrance in ("Windows", "sounds", "labels", "targets of batches", "evaluate"):
        pytest.skip("None is a value there, or cannot be a tuple")
    with pytest.raises(UserError, match="`(images|samples|clips.0.|labels|targets|x|y)`|The teacher"):
        call(given)


def test_bfloat16_is_refused_by_its_type():
    dtypes = pytest.importorskip("ml_dtypes")
    for call, argument in ((lambda x: pictures.check_images(x, (32, 32, 3)), PICTURES), (data.load, SOUNDS)):
        with pytest.raises(UserError, match="bfloat16"):
            call(argument.astype(dtypes.bfloat16))


# --- pictures that were scaled already, and samples that were not


@pytest.mark.parametrize("entrance", ["load", "batches", "Batches", "load of a data set", "evaluate"])
@pytest.mark.parametrize(
    ("values", "says"),
    [
        (PICTURES / np.float32(255), r"divided by 255: `numpy.rint\(255"),
        (PICTURES / np.float32(127.5) - 1, "from -1 to 1: undo the scaling"),
        (PICTURES.astype(np.float32), "convert with"),
        (np.where(PICTURES > 250, np.nan, PICTURES), "NaN"),
        (PICTURES[..., 0], "repeat"),
        (PICTURES[0], r"batch axis: `images\[None\]`"),
        (np.moveaxis(PICTURES, -1, 1), "moveaxis"),
        (np.moveaxis(np.concatenate([PICTURES, PICTURES[..., :1]], axis=-1), -1, 1), "moveaxis"),
        ((1000 * SOUNDS).astype(np.int16), "Divide 16-bit"),
    ],
)
def test_arrays_that_are_no_decoded_pictures_are_refused_with_the_remedy(entrance, values, says):
    with pytest.raises(UserError, match=says):
        ENTRANCES[entrance][0](values)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_pictures_of_any_number_of_channels_are_loaded_and_refused_by_an_encoder_of_others(channels):
    images = np.tile(PICTURES, 5)[..., :channels]
    for entrance in ("load", "load of a data set"):
        assert ENTRANCES[entrance][0](images).images.shape == images.shape
    if channels == 1:  # grey is shown to an encoder of RGB in three equal channels
        assert ENTRANCES["evaluate"][0](images)
        return
    with pytest.raises(UserError, match=f"pictures of {channels} channels, and 3 are wanted"):
        ENTRANCES["evaluate"][0](images)


@pytest.mark.parametrize("entrance", ["check_samples", "check_clips", "load of sounds", "Windows", "sounds"])
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((SOUNDS * 32768).astype(np.int16), "32768"),
        (SOUNDS * np.float32(32768), r"-1..1. Received: values up to 16\d+"),
        (np.where(SOUNDS > 0.49, np.nan, SOUNDS), "NaN"),
    ],
)
def test_samples_that_are_no_sounds_are_refused(entrance, values, says):
    with pytest.raises(UserError, match=says):
        ENTRANCES[entrance][0](values)


def test_pictures_divided_by_255_are_told_where_floats_may_come_in():
    for call in (
        lambda x: pictures.check_images(x, (32, 32, 3)),
        lambda x: pictures.check_images(x, (None, None, 3), cast=False),
    ):
        with pytest.warns(UserWarning, match="multiply them by 255"):
            call(PICTURES / np.float32(255))


def test_a_series_of_any_range_passes_with_its_axis_of_features():
    series = 1000 * SOUNDS[..., None]
    assert data.batches(series, batch_size=4)[0]["sequences"].shape == (4, 400, 1)
    with pytest.raises(UserError, match=r"`values\[..., None\]`"):
        data.batches(series[..., 0], batch_size=4)


def test_grey_pictures_of_another_size_and_size_are_told():
    with pytest.raises(UserError, match=r"\(8, 28, 28, 3\).*mizoo.data.load\(images, size"):
        pictures.check_images(PICTURES[:, :28, :28], (32, 32, 3))
    with pytest.raises(UserError, match="repeat"):
        pictures.check_images(PICTURES[:, :28, :28, 0], (32, 32, 3))
    with pytest.raises(UserError, match=r"images\[..., None\]"):
        pictures.check_images(PICTURES[..., 0], (32, 32, 1))
    assert data.load(PICTURES[..., :1], size=16).images.shape == (8, 16, 16, 1)
    with pytest.raises(UserError, match="`size` is of pictures"):
        data.load(SOUNDS, size=16)


@pytest.mark.parametrize("source", [PICTURES.tolist(), (PICTURES[0], PICTURES[1])], ids=["lists", "arrays"])
def test_lists_of_decoded_pictures_are_taken_or_refused_by_their_type(source):
    if isinstance(source, tuple):
        assert data.load(source).images.shape == (2, 32, 32, 3)
    else:
        with pytest.raises(UserError, match="astype"):
            data.load(source)


# --- numbers and labels


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"noise_size": -1}, "noise_size"),
        ({"start_epoch": -2}, "start_epoch"),
        ({"batch_size": 4.0}, "batch_size"),
        ({"targets": np.zeros((8,))}, "targets"),
        ({"targets": np.full((8, 2), np.nan)}, "targets"),
        ({"targets": np.zeros((8, 2), int)}, "targets"),
    ],
)
def test_numbers_that_make_no_batches_are_refused_by_name(settings, name):
    with pytest.raises(UserError, match=f"`{name}`"):
        data.batches(PICTURES, **{"batch_size": 4} | settings)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.arange(8) / 2, "dtype float64"),
        (np.arange(8) - 1, "from -1 to 6"),
        (np.arange(8) * 10**12, "100,000 at most.*7000000000000.*return_inverse"),
        (np.eye(8), "argmax"),
        (np.arange(7), "one label for each of 8 pictures. Received: 7"),
        (np.array([None] * 8), "dtype object"),
    ],
)
def test_labels_that_number_no_classes_are_refused_at_construction(labels, says):
    with pytest.raises(UserError, match=f"`labels` .*{says}"):
        data.Dataset("mine", PICTURES, labels)


def test_labels_that_number_no_class_of_those_given_are_refused_at_construction():
    with pytest.raises(UserError, match="labels from 1 to 4 with 4 classes. They count from 1: subtract 1"):
        data.Dataset("mine", PICTURES, np.arange(8) // 2 + 1, "a b c d".split())
    with pytest.raises(UserError, match="labels from 0 to 7 with 2 classes"):
        data.Dataset("mine", PICTURES, np.arange(8), ("a", "b"))


def test_names_of_classes_are_numbered():
    names = ["dog", "cat", "dog", "emu"] * 2
    dataset = data.Dataset("mine", PICTURES, names)
    assert dataset.classes == ("cat", "dog", "emu") and dataset.labels.tolist() == [1, 0, 1, 2] * 2
    given = data.Dataset("mine", PICTURES, np.array(names, object), ["emu", "dog", "cat"])
    assert given.labels.tolist() == [1, 2, 1, 0] * 2 and given.labels.dtype == np.int64
    with pytest.raises(UserError, match="not among `classes`: emu"):
        data.Dataset("mine", PICTURES, names, ("cat", "dog"))
    part = data.load(dataset, "train[2:4]")
    assert part.labels.tolist() == [1, 2] and part.classes == dataset.classes


def test_lists_of_labels_are_arrays_and_minus_one_is_none():
    assert data.Dataset("mine", PICTURES, list(range(8))).labels.dtype == np.int64
    assert data.Dataset("mine", PICTURES, np.full(8, -1)).labels is None


def test_sounds_with_a_wrong_shape_or_rate_are_refused():
    for clips, rate, says in (
        (SOUNDS[:, None], 8000, r"`clips\[0\]` must be one sound \(T,\)"),
        ((SOUNDS[0], SOUNDS[0, :0]), 8000, r"`clips\[1\]`"),
        (SOUNDS, 0, "`sampling_rate`"),
    ):
        with pytest.raises(UserError, match=says):
            sounds.load(sounds.Sounds("mine", tuple(clips), rate))
    with pytest.raises(UserError, match="Sounds are a folder.*ndarray"):
        sounds.load(SOUNDS)


def test_the_onnx_form_refuses_what_the_checks_refuse():
    from mizoo import zoo

    encoder = zoo.load("dim_local_cifar10", "global", runtime="onnx")
    with pytest.raises(UserError, match="masked"):
        encoder(hidden(PICTURES))
    with pytest.raises(UserError, match="detach"):
        encoder(Tensor(PICTURES, HALF))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder(hidden(PICTURES, 0)).shape == (8, 64)
