"""The baselines of Deep InfoMax: VAE, AAE and training with the labels, and the decoder and the recipes of them."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from PIL import Image
from support.encoders import TOY, toy_encoder

from mizoo import encoders, recipes
from mizoo.errors import UserError
from mizoo.export.keras_file import check_stock
from mizoo.objectives import AAE, VAE, Supervised
from mizoo.pretrain import inputs, pretrain
from mizoo.runs.folder import SavedState, read_log

DEVIATION = 0.4


def linear_vae(rng) -> tuple[VAE, np.ndarray]:
    """A VAE whose decoder is linear, with the posterior that is exact for it, and the directions W (d, D).

    x = W'z + noise of the standard deviation s with orthogonal rows of W: q(z | x) = N(Wx / (|w|^2 + s^2), s^2 /
    (|w|^2 + s^2)) in each coordinate.
    """
    size, pixels = 3, 16
    directions = np.linalg.qr(rng.standard_normal((pixels, size)))[0].T * np.array([[1.5], [1.0], [0.5]])
    images = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images))
    y = keras.layers.Dense(size, use_bias=False, name="posterior")(flat)
    encoder = keras.Model(images, {"fc": flat, "global": y})
    vectors = keras.Input((size,))
    pixels_layer = keras.layers.Dense(pixels, use_bias=False, name="pixels")
    decoder = keras.Model(vectors, keras.layers.Reshape((4, 4, 1))(pixels_layer(vectors)))
    model = VAE(encoder, decoder)
    squares = np.sum(directions**2, axis=1)
    posterior = (directions / (squares + DEVIATION**2)[:, None]).T
    encoder.get_layer("posterior").set_weights([posterior])
    pixels_layer.set_weights([directions])
    variance = DEVIATION**2 / (squares + DEVIATION**2)
    model.log_variance.set_weights([np.zeros((pixels, size)), np.log(variance)])
    model.log_deviation.assign(math.log(DEVIATION))
    return model, directions


def elbo(model: VAE, x: np.ndarray, rng) -> float:
    pictures = ((x + 1.0) * 127.5).reshape(-1, 4, 4, 1).astype("float32")
    return float(model.compute_terms(pictures, rng.random((len(x), 3), dtype="float32"))[1]["elbo"])


def test_the_bound_of_a_linear_gaussian_model_is_its_log_likelihood(rng):
    model, directions = linear_vae(rng)
    x = rng.standard_normal((20000, 3)) @ directions + DEVIATION * rng.standard_normal((20000, 16))
    covariance = directions.T @ directions + DEVIATION**2 * np.eye(16)
    mahalanobis = np.einsum("ni,ij,nj->n", x, np.linalg.inv(covariance), x)
    log_likelihood = -0.5 * (mahalanobis + np.linalg.slogdet(covariance)[1] + 16 * math.log(2 * math.pi))
    assert elbo(model, x, rng) == pytest.approx(log_likelihood.mean(), abs=0.05)

    model.log_variance.set_weights([np.zeros((16, 3)), np.zeros(3)])  # another posterior is below it, by its KL
    squares = np.sum(directions**2, axis=1)
    ratio = (squares + DEVIATION**2) / DEVIATION**2
    gap = 0.5 * np.sum(ratio - 1 - np.log(ratio))
    assert elbo(model, x, rng) == pytest.approx(log_likelihood.mean() - gap, rel=0.02)


def test_the_divergence_is_that_of_gaussians_and_the_error_that_of_the_pictures(rng):
    model = VAE(toy_encoder())
    pictures = rng.integers(0, 256, (6, 32, 32, 3)).astype("float32")
    noise = rng.random((6, model.noise_size), dtype="float32")
    bias = rng.standard_normal(5).astype("float32")
    model.log_variance.set_weights([np.zeros((16, 5)), bias])
    terms = {key: float(value) for key, value in model.compute_terms(pictures, noise)[1].items()}
    mean = ops.convert_to_numpy(model.encoder(pictures, training=True)["global"]).astype("float64")
    kl = np.mean([sum(0.5 * (m * m + math.exp(s) - 1 - s) for m, s in zip(row, bias)) for row in mean])
    assert terms["kl"] == pytest.approx(kl, rel=1e-4)
    expected = -0.5 * 3072 * (terms["reconstruction"] + math.log(2 * math.pi)) - kl  # of the deviation 1 at the start
    assert terms["elbo"] == pytest.approx(expected, rel=1e-5)


def test_a_vae_learns_the_deviation_of_its_pixels_and_to_code_them(rng):
    colours = rng.integers(0, 256, (64, 1, 1, 3))
    pictures = np.broadcast_to(colours, (64, 32, 32, 3)).astype("uint8")
    model = VAE(toy_encoder())
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(pictures, batch_size=32, epochs=40, verbose=0).history
    variance = np.var(colours / 127.5 - 1, axis=0).mean()  # the error of a decoder that ignores its code
    assert history["elbo"][-1] > history["elbo"][0] + 1000 and history["reconstruction"][-1] < 0.8 * variance
    deviation = math.exp(2 * float(model.log_deviation))
    assert deviation == pytest.approx(np.mean(history["reconstruction"][-5:]), rel=0.6)


@pytest.mark.parametrize("prior", ["uniform", "gaussian"])
def test_the_sides_of_an_aae_do_not_reach_each_other(prior, rng):
    model = AAE(toy_encoder(), prior=prior)
    pictures = rng.integers(0, 256, (8, 32, 32, 3)).astype("float32")
    with tf.GradientTape(persistent=True) as tape:
        loss, terms = model.compute_terms(pictures, rng.random((8, 5), dtype="float32"))
    adversary = [v.value for v in model.discriminator.trainable_variables]
    coder = [v.value for v in model.encoder.trainable_variables]
    decoder = [v.value for v in model.decoder.trainable_variables]

    def reached(target, variables) -> bool:
        return any(g is not None and float(tf.reduce_max(tf.abs(g))) > 0 for g in tape.gradient(target, variables))

    assert reached(terms["adversary"], adversary) and not reached(terms["adversary"], coder + decoder)
    assert reached(terms["prior"], coder) and not reached(terms["prior"], adversary + decoder)
    assert reached(terms["reconstruction"], coder) and reached(terms["reconstruction"], decoder)
    expected = sum(float(terms[key]) * weight for key, weight in (("reconstruction", 1), ("prior", 0.1)))
    assert float(loss) == pytest.approx(expected + float(terms["adversary"]), rel=1e-5)


@pytest.mark.parametrize("kind", [VAE, AAE])
def test_batches_of_free_shape_are_taken(kind, rng):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data")
    import tensorflow as tf

    images = rng.integers(0, 256, (4, 32, 32, 3)).astype("float32")
    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    model = kind(toy_encoder())
    model.compile(keras.optimizers.SGD(0.01))
    batches = tf.data.Dataset.from_generator(lambda: iter([images]), output_signature=spec)
    assert np.isfinite(model.fit(batches, verbose=0).history["loss"]).all()


def test_the_decoder_mirrors_the_paper_s_encoder_and_one_that_does_not_fit_is_refused():
    built = AAE(encoders.conv32()).decoder
    assert built.output_shape == (None, 32, 32, 3)
    sizes = [math.prod(layer.kernel.shape) for layer in built.layers if hasattr(layer, "kernel")]
    encoder = [math.prod(layer.kernel.shape) for layer in encoders.conv32().layers if hasattr(layer, "kernel")]
    assert sizes == encoder[::-1]
    for wrong in (encoders.decoder(6), toy_encoder(), "conv", encoders.decoder(5, (32, 32, 1))):
        with pytest.raises(UserError, match="`decoder` is a keras.Model from vectors"):
            AAE(toy_encoder(), decoder=wrong)
    with pytest.raises(UserError, match="`prior` is one of uniform, gaussian"):
        AAE(toy_encoder(), prior="laplace")


@pytest.mark.parametrize(
    ("kind", "size", "maps", "message"),
    [
        (VAE, 8, ["fc"], r"`fc` is a vector .*\(None, 8, 8, 3\)"),
        (VAE, 8, ["global"], "`global` is a vector"),
        (AAE, 8, ["global"], "`global` is a vector"),
        (VAE, None, [], "pictures of known size"),
        (AAE, None, [], "pictures of known size"),
    ],
)
def test_encoders_that_no_autoencoder_can_use_are_refused_at_construction(kind, size, maps, message):
    x = keras.Input((size, size, 3))
    vector = keras.layers.GlobalAveragePooling2D()(x)
    encoder = keras.Model(x, {name: x if name in maps else vector for name in ("fc", "global")})
    with pytest.raises(UserError, match=message):
        kind(encoder)


def test_supervised_training_is_cross_entropy_of_the_targets(rng):
    model = Supervised(toy_encoder(), classes=3)
    pictures, labels = rng.integers(0, 256, (6, 32, 32, 3)).astype("float32"), np.array([0, 1, 2, 2, 1, 0])
    targets = np.eye(3, dtype="float32")[labels]
    terms = model.forward(*model.unpack({"images": pictures, "targets": targets}))[1]
    logits = ops.convert_to_numpy(model.head(model.encoder(pictures, training=True)["global"])).astype("float64")
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert float(terms["cross_entropy"]) == pytest.approx(-np.log(chances[np.arange(6), labels]).mean(), rel=1e-5)
    assert float(terms["accuracy"]) == pytest.approx(np.mean(logits.argmax(axis=1) == labels))
    for batch in (pictures, {"images": pictures}, {"images": pictures, "targets": targets[:, :2]}):
        with pytest.raises(UserError, match="brings the classes, 3 columns"):
            model.unpack(batch)
    for classes in (0, 1, 2.5, None):
        with pytest.raises(UserError, match="`classes`"):
            Supervised(toy_encoder(), classes)


@pytest.fixture
def class_folders(tmp_path, rng):
    """A folder of 24 pictures in two class folders."""
    for i in range(24):
        folder = tmp_path / "pictures" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype("uint8")).save(folder / f"{i}.png")
    return tmp_path / "pictures"


class Untouchable:
    """Labels that nobody may look at."""

    def __getattribute__(self, name):
        """Refuse."""
        raise AssertionError(f"the labels were asked for {name}")


def toy_recipe(source, objective: dict, epochs: int = 1) -> recipes.Recipe:
    """A recipe of a toy encoder; of patches for CPC."""
    patches = {"name": "patch_grid", "patch": 8, "width": 4, "size": 6, "blocks": 1}
    content = {
        "name": "toy",
        "encoder": patches if objective["name"] == "cpc" else TOY,
        "objective": objective,
        "data": {"source": str(source), "augment": "views"},
        "training": {"epochs": epochs, "batch_size": 12, "precision": "float32"},
    }
    return recipes.validate(content)


@pytest.mark.parametrize("name", sorted(set(recipes.OBJECTIVES) - {"supervised"}))
def test_no_other_objective_sees_labels(name, class_folders, tmp_path, monkeypatch):
    objective = {"name": name}
    if name == "distillation":
        toy_encoder().save(tmp_path / "teacher.keras")
        objective |= {"teachers": [[str(tmp_path / "teacher.keras"), "fc"]], "teacher_views": 1}
    if name == "cpc":
        objective |= {"steps": 2}
    load = inputs.load_or_stream

    def load_with_untouchable(*given):
        """The pictures, with labels that raise."""
        loaded = load(*given)
        object.__setattr__(loaded, "labels", Untouchable())  # the data set would check others
        return loaded

    monkeypatch.setattr(inputs, "load_or_stream", load_with_untouchable)
    recipe = toy_recipe(class_folders, objective)
    assert not recipe.objective.takes_labels
    job = inputs.prepare(recipe, tmp_path / "run", SavedState(), 1)
    model = job.objective(job.phases[0], job.encoder(0))
    columns = {"images", "noise"} | ({"targets"} if name == "distillation" else set())
    assert set(job.batches(model.noise_size, 0)[0]) == columns
    with pytest.raises(AssertionError, match="the labels were asked for"):
        inputs.prepare(toy_recipe(class_folders, {"name": "supervised"}), tmp_path / "other", SavedState(), 1)


WHOLE_PAPER = {
    "name": "deep_infomax",
    "critic_width": 8,
    "occlusion": 0.5,
    "coordinates_weight": 0.3,
    "prior": "gaussian",
}


@pytest.mark.parametrize(
    "objective",
    [
        WHOLE_PAPER,
        pytest.param({"name": "vae"}, marks=pytest.mark.slow),
        pytest.param({"name": "aae", "prior": "gaussian"}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_is_the_whole_one_and_leaves_a_plain_encoder(objective, class_folders, tmp_path, eager):
    recipe = toy_recipe(class_folders, objective, epochs=2)
    whole = pretrain(recipe, tmp_path / "whole")
    pretrain(recipe, tmp_path / "resumed", stop_after=1)
    resumed = pretrain(recipe, tmp_path / "resumed")
    first, second = (keras.saving.load_model(run / "encoder.keras", compile=False) for run in (whole, resumed))
    check_stock(first)
    assert set(first.output) == {"local", "conv", "fc", "global"}
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_recipe_with_labels_takes_them_from_class_folders_and_needs_some(tmp_path, rng):
    for i in range(32):
        folder = tmp_path / "pictures" / ("dark" if i % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (32, 32, 3)) + (0 if i % 2 else 150)
        Image.fromarray(pixels.astype("uint8")).save(folder / f"{i}.png")
    content = {
        "name": "toy",
        "encoder": TOY,
        "objective": {"name": "supervised"},
        "data": {"source": str(tmp_path / "pictures"), "augment": "none"},
        "optimizer": {"learning_rate": 0.01},
        "training": {"epochs": 6, "batch_size": 16, "precision": "float32"},
    }
    run = pretrain(recipes.validate(content), tmp_path / "run", stop_after=4)
    run = pretrain(recipes.validate(content), tmp_path / "run")  # resumed, with the same labels
    log = read_log(run)
    assert len(log) == 6 and log[-1]["accuracy"] == 1.0 and log[-1]["cross_entropy"] < log[0]["cross_entropy"]

    (tmp_path / "pictures/light/0.png").rename(tmp_path / "pictures/dark/0.png")
    longer = recipes.validate(content | {"training": content["training"] | {"seed": 0}})
    run_folder = tmp_path / "stopped"
    pretrain(longer, run_folder, stop_after=1)
    (tmp_path / "pictures/dark/0.png").rename(tmp_path / "pictures/light/0.png")
    with pytest.raises(UserError, match="1 new .light/0.png.; 1 gone"):
        pretrain(longer, run_folder)
    (run_folder / "pictures.json").unlink()  # as of a run of an earlier version
    with pytest.raises(UserError, match="trained with other labels"):
        pretrain(longer, run_folder)

    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "pictures/dark").iterdir():
        path.rename(flat / path.name)
    with pytest.raises(UserError, match="trains with labels, and .* has none"):
        pretrain(recipes.validate(content | {"data": {"source": str(flat), "augment": "none"}}), tmp_path / "none")
