"""Many small views: InfoNCE over all pairs, the whitened network on every side, and runs whose views change."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from support.encoders import toy_encoder

from mizoo import augment, bounds, encoders, recipes
from mizoo.encoders import three_stage
from mizoo.encoders.three_stage import WHITENING, fit_whitening
from mizoo.errors import UserError
from mizoo.objectives import DeepInfoMax, SimCLR
from mizoo.pretrain import pretrain
from mizoo.recipes.training import Data
from mizoo.runs.folder import read_log


def by_a_direct_loop(scores: np.ndarray, views: int) -> float:
    """The mean over all ordered pairs of views of a picture, each against all views of the other pictures."""
    pictures = len(scores) // views
    values = []
    for row in range(len(scores)):
        others = [column for column in range(len(scores)) if column % pictures != row % pictures]
        for shift in range(1, views):
            partner = (row + shift * pictures) % len(scores)
            candidates = np.exp([scores[row, partner], *scores[row, others]])
            values.append(np.log(candidates[0] / candidates.mean()))
    return float(np.mean(values))


@pytest.mark.parametrize("views", [2, 3, 4])
def test_infonce_of_views_is_that_of_a_direct_loop(rng, views):
    rows = views * 3
    scores = rng.standard_normal((rows, rows)).astype("float32")
    siblings = np.stack([np.roll(np.arange(rows), -3 * i) for i in range(views)], axis=1)
    value = float(bounds.infonce_views(ops.convert_to_tensor(scores), ops.convert_to_tensor(siblings)))
    assert value == pytest.approx(by_a_direct_loop(scores, views), abs=1e-5)
    if views == 2:
        columns = ops.arange(rows)
        same = bounds.infonce(scores[:, None], ops.roll(columns, 3), excluded=columns)
        assert value == pytest.approx(float(same), abs=1e-5)


def test_simclr_of_many_views_trains_below_its_ceiling_and_is_the_loop_over_its_features(rng):
    model = SimCLR(toy_encoder(), temperature=0.3, views=4, augment=augment.preset("views"))
    images = rng.uniform(0, 255, (12, 32, 32, 3)).astype("float32")
    _, terms = model.compute_terms(images, None)
    z = ops.convert_to_numpy(model.encoder(images, training=True)["global"]).astype("float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert float(terms["global_mi"]) == pytest.approx(by_a_direct_loop(z @ z.T / 0.3, 4), abs=1e-4)
    assert model.ceilings(3) == {"global_mi": pytest.approx(np.log(9))}
    perfect = np.kron(np.ones((4, 4)), np.eye(3)) * 100
    siblings = np.stack([np.roll(np.arange(12), -3 * i) for i in range(4)], axis=1)
    assert float(bounds.infonce_views(perfect, ops.convert_to_tensor(siblings))) == pytest.approx(np.log(9), abs=1e-4)


def test_deep_infomax_takes_every_ordered_pair_of_views(rng):
    model = DeepInfoMax(
        toy_encoder(),
        prior_weight=0.0,
        critic_width=6,
        views=3,
        augment=augment.preset("views"),
        pairs=[("conv", "conv")],
    )
    assert len(model._directions()) == 6 and model.own_noise_size == 6
    model.compile("sgd")
    history = model.fit(rng.integers(0, 256, (8, 32, 32, 3), dtype="uint8"), batch_size=4, verbose=0).history
    assert np.isfinite(history["conv_conv_mi"][-1])


def test_whitening_makes_the_responses_to_patches_uncorrelated(rng):
    smooth = rng.normal(size=(40, 9, 9, 3)).cumsum(axis=1).cumsum(axis=2)
    pictures = np.clip(128 + 8 * smooth, 0, 255).astype("uint8")
    encoder = three_stage((4, 6, 8), head_size=8, global_size=5, side=8)
    fit_whitening(encoder, pictures)
    layer = encoder.get_layer(WHITENING)
    assert layer.trainable_weights == [] and layer.kernel.path not in [v.path for v in encoder.trainable_variables]
    kernel = ops.convert_to_numpy(layer.kernel).reshape(12, 24)
    scaled = pictures.astype("float32") / 127.5 - 1
    corners = [scaled[:, y : y + 8, x : x + 8] for y in (0, 1) for x in (0, 1)]
    responses = np.concatenate(corners, axis=-1).reshape(-1, 12) @ kernel[:, :12]
    covariance = np.cov(responses.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.02
    assert np.diag(covariance).max() <= 1.001
    np.testing.assert_allclose(kernel[:, 12:], -kernel[:, :12])


@pytest.mark.parametrize("block", [1, 3000, 1 << 23])
def test_whitening_by_blocks_is_that_of_all_patches_at_once(rng, monkeypatch, block):
    pictures = rng.integers(0, 256, (23, 12, 9, 3), dtype="uint8")
    taken: list[int] = []

    class Rows:
        """Pictures that say how many are taken at a time."""

        shape = pictures.shape

        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, rows):
            taken.append(len(pictures[rows]))
            return pictures[rows]

    monkeypatch.setattr(sys.modules[fit_whitening.__module__], "_BLOCK", block)
    encoder = three_stage((4, 6, 8), head_size=8, global_size=5, side=8)
    fit_whitening(encoder, Rows(), count=10)
    assert sum(taken) == 10 and max(taken) <= max(1, block // (12 * 12 * 9))

    scaled = pictures[::2][:10].astype("float32") / 127.5 - 1
    corners = [scaled[:, y : y + 11, x : x + 8] for y in (0, 1) for x in (0, 1)]
    patches = np.concatenate(corners, axis=-1).reshape(-1, 12).astype("float64")
    values, vectors = np.linalg.eigh(np.cov(patches.T, bias=True))
    kernel = ops.convert_to_numpy(encoder.get_layer(WHITENING).kernel).reshape(12, 24)
    np.testing.assert_allclose(np.abs(kernel[:, :12]), np.abs(vectors / np.sqrt(values + 5e-4)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding, lost", [("same", 0), ("valid", 1)])
def test_views_of_every_side_pass_through_the_same_weights(padding, lost, rng):
    large, small = (three_stage((4, 6, 8), head_size=8, global_size=5, side=side, padding=padding) for side in (32, 16))
    small.set_weights(large.get_weights())
    for encoder, side in ((large, 32), (small, 16)):
        outputs = encoder(rng.uniform(0, 255, (2, side, side, 3)))
        assert outputs["local"].shape[1:] == (side // 4 - lost, side // 4 - lost, 6)
        assert outputs["conv"].shape[1:] == (side // 8 - lost, side // 8 - lost, 8)
        assert {key: outputs[key].shape[1:] for key in ("fc", "global")} == {"fc": (14,), "global": (5,)}
        assert outputs["fc"].dtype in ("float32", keras.ops.convert_to_tensor(0.0).dtype)


def test_a_padding_that_is_none_is_named():
    for arguments in ({"padding": "full"}, {"padding": None}, {"padding": "valid", "side": 8}):
        with pytest.raises(UserError, match="`padding"):
            three_stage((4, 6, 8), **arguments)


@pytest.fixture
def recipe(rng, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype="uint8")).save(folder / f"{i:02d}.png")
    return {
        "name": "toy",
        "encoder": {"name": "three_stage", "widths": [4, 6, 8], "head_size": 8, "global_size": 5, "side": 24},
        "objective": {"name": "simclr", "views": 3, "temperature": 0.3},
        "data": {
            "source": str(folder),
            "augment": "views",
            "stages": [{"epochs": 2, "view_side": 8, "area": [0.1, 0.5]}, {"view_side": 16}],
        },
        "optimizer": {"name": "muon", "learning_rate": 0.05, "warmup_epochs": 1.0},
        "training": {"epochs": 3, "batch_size": 8, "precision": "float32"},
    }


def test_a_run_resumes_exactly_through_a_change_of_the_views(recipe, tmp_path, eager):
    whole = pretrain(recipes.validate(recipe), tmp_path / "whole")
    broken = tmp_path / "broken"
    pretrain(recipes.validate(recipe), broken, stop_after=1)
    pretrain(recipes.validate(recipe), broken)
    encoders = [keras.saving.load_model(run / "encoder.keras", compile=False) for run in (whole, broken)]
    for one, other in zip(*(encoder.get_weights() for encoder in encoders), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert encoders[0].input_shape == (None, 24, 24, 3)
    assert [line["epoch"] for line in read_log(broken)] == [1, 2, 3]
    kernel = encoders[0].get_layer(WHITENING).get_weights()[0].reshape(12, 24)
    np.testing.assert_allclose(kernel[:, 12:], -kernel[:, :12], atol=1e-6)  # fitted to the pictures, and kept


def test_a_finished_run_normalises_by_whole_pictures(recipe, tmp_path, eager):
    asked = recipe | {"training": recipe["training"] | {"batch_statistics": "pictures"}}
    plain, whole = (pretrain(recipes.validate(each), tmp_path / str(i)) for i, each in enumerate((recipe, asked)))
    plain, whole = (keras.saving.load_model(run / "encoder.keras", compile=False) for run in (plain, whole))
    images = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "pictures").glob("*.png"))])
    for one, other in zip(plain.trainable_weights, whole.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    first = whole.get_layer("stage1_conv1_norm")
    seen = keras.Model(whole.input, first.input)(images.astype("float32"))
    np.testing.assert_allclose(first.moving_mean, np.mean(seen, axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(first.moving_variance, np.var(seen, axis=(0, 1, 2)), rtol=1e-4)
    assert np.abs(plain.get_layer("stage1_conv1_norm").moving_mean - first.moving_mean).max() > 1e-3
    assert recipes.validate(recipe).identity() == recipes.validate(asked).identity()  # an older run may be given it


def test_statistics_are_the_mean_of_those_of_batches_and_momenta_stay(rng):
    encoder = three_stage((4, 6, 8), head_size=8, global_size=5, side=16)
    images = rng.integers(0, 256, (600, 16, 16, 3), dtype="uint8")
    before = encoder.get_layer("stage1_conv1_norm").momentum
    encoders.fit_statistics(encoder, images, count=512)
    norm = encoder.get_layer("stage1_conv1_norm")
    chosen = images[np.linspace(0, 599, 512).round().astype(int)].astype("float32")
    halves = [np.asarray(keras.Model(encoder.input, norm.input)(half)) for half in np.split(chosen, 2)]
    np.testing.assert_allclose(norm.moving_mean, np.mean([half.mean((0, 1, 2)) for half in halves], axis=0), atol=1e-4)
    np.testing.assert_allclose(
        norm.moving_variance, np.mean([half.var((0, 1, 2)) for half in halves], axis=0), rtol=1e-3
    )
    assert norm.momentum == before
    for arguments in ({"count": 1}, {"images": images[:1]}):
        with pytest.raises(UserError, match="2 pictures and more"):
            encoders.fit_statistics(**({"encoder": encoder, "images": images} | arguments))


def test_stages_follow_each_other():
    data = Data(
        source="x", augment="views", stages=[{"epochs": 2, "view_side": 8}, {"epochs": 1}, {"area": (0.5, 1.0)}]
    )
    assert [data.stage_at(epoch)[1] for epoch in range(5)] == [2, 2, 3, None, None]
    assert data.stage_at(1)[0].view_side == 8 and data.stage_at(9)[0].area == (0.5, 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": [{"view_side": 8}, {"view_side": 16}]}, "need `epochs`, but for the last"),
        ({"stages": [{"epochs": 2, "view_side": 8}]}, "leave out its `epochs`"),
        ({"stages": [{"epochs": 3, "view_side": 8}, {}]}, "the last one never begins"),
        ({"stages": [{"epochs": 1, "view_side": 12}, {}]}, "multiple of 8"),
        ({"stages": [{"epochs": 1, "area": [0.9, 0.2]}, {}]}, "range of shares"),
        ({"augment": "dim"}, "resize crops"),
        ({"view_side": 8}, "without `stages`"),
    ],
)
def test_impossible_stages_are_named(recipe, changes, words):
    with pytest.raises(UserError, match=words):
        recipes.validate(recipe | {"data": recipe["data"] | changes})
