"""Every kind of Keras model that the pages name loads, embeds and exports, or is refused with what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support.encoders import toy_encoder

from mizoo import DeepInfoMax, SimCLR, UserError, augment, embed, export, optimizers, zoo
from mizoo.data import pictures
from mizoo.encoders.resizing import any_size
from mizoo.evaluate.features import features
from mizoo.recipes.schedules import Trapezoid
from mizoo.zoo import interface

PACKAGE = Path(__file__).resolve().parents[1] / "mizoo"


@keras.saving.register_keras_serializable("tests")
class Wrapper(keras.Model):
    """What people write around an encoder."""

    def __init__(self, encoder, **settings):
        super().__init__(**settings)
        self.encoder = encoder

    def call(self, inputs):
        return self.encoder(inputs)["fc"]

    def get_config(self):
        return {**super().get_config(), "encoder": keras.saving.serialize_keras_object(self.encoder)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)


def one_endpoint():
    encoder = toy_encoder()
    return keras.Model(encoder.input, encoder.output["fc"], name="toy_fc")


def trained(layers, images):
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)  # one step, which is not worth tracing
    model.fit(images, np.zeros(len(images)), batch_size=8, verbose=0)
    return model


KINDS = {
    "sequential": lambda x: trained([one_endpoint(), keras.layers.Dense(10, name="head")], x),
    "sequential_with_input": lambda x: keras.Sequential([keras.Input((32, 32, 3)), one_endpoint()]),
    "sequential_of_a_dict": lambda x: keras.Sequential([keras.Input((32, 32, 3)), toy_encoder()]),
    "functional": lambda x: one_endpoint(),
    "list_of_one_input": lambda x: keras.Model([(encoder := toy_encoder()).input], encoder.output),
}
ENDPOINTS = {
    "sequential": {"head"},
    "functional": {"fc"},
    "sequential_of_a_dict": {"local", "conv", "fc", "global"},
    "list_of_one_input": {"local", "conv", "fc", "global"},
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, images):
    """A function from a kind to (the model, its file), made once."""
    made = {}

    def make(kind):
        if kind not in made:
            model = KINDS[kind](images)
            file = tmp_path_factory.mktemp(kind) / f"{kind}.keras"
            model.save(file)
            made[kind] = model, file
        return made[kind]

    return make


def as_dict(values, name):
    return values if isinstance(values, dict) else {name: values}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_loads_and_is_described(saved, images, kind):
    model, file = saved(kind)
    loaded = zoo.load(file)
    assert interface.input_shape(loaded) == (32, 32, 3) and interface.side(loaded) == 32
    names = set(interface.outputs(loaded))
    assert names == ENDPOINTS.get(kind, names)
    single = not interface.endpoint_names(loaded)
    assert single == (kind not in ("sequential_of_a_dict", "list_of_one_input"))
    expected = as_dict(model(images, training=False), *(names if single else ["-"]))
    got = as_dict(loaded(images, training=False), *(names if single else ["-"]))
    for name in names:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-5)
    alone = zoo.load(file, endpoint=name)
    np.testing.assert_allclose(alone(images, training=False), expected[name], atol=1e-5)
    assert alone.name == f"{kind}_{name}"
    if kind in ("sequential", "sequential_of_a_dict"):
        assert set(features(loaded, images)) == ({"features"} if single else names)
    with pytest.raises(UserError, match="no endpoint 'nothing'. Its endpoints"):
        zoo.load(file, endpoint="nothing")


@pytest.mark.parametrize("kind", ["sequential", "sequential_of_a_dict"])
def test_every_kind_embeds_on_keras(saved, images, tmp_path, kind):
    from PIL import Image

    model, file = saved(kind)
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    embed.embed(file, tmp_path / "a.png", tmp_path / "out.npz", runtime="keras", progress=False)
    expected = as_dict(model(pictures.square(images[0], 32)[None], training=False), *ENDPOINTS[kind] & {"head", "fc"})
    with np.load(tmp_path / "out.npz") as found:
        assert set(found) == {*ENDPOINTS[kind], "paths"}
        for name in ENDPOINTS[kind]:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


@pytest.mark.parametrize("kind", ["sequential", "sequential_of_a_dict"])
def test_every_kind_exports(saved, images, tmp_path, kind, quick_saved_model):
    model, file = saved(kind)
    manifest = export.export(file, tmp_path / "out", images=images)
    assert set(manifest["endpoints"]) == ENDPOINTS[kind]
    assert max(manifest["differences"]["onnx"].values()) < 1e-4
    onnx = zoo.load(tmp_path / "out", runtime="onnx")
    assert set(onnx.endpoints) == ENDPOINTS[kind]


def test_a_saved_model_of_a_single_output_has_its_name(saved, tmp_path, images):
    model, _ = saved("sequential")
    export.save_saved_model(model, tmp_path / "saved")
    import tensorflow as tf

    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serve"]
    np.testing.assert_allclose(serve(images=images.astype("float32"))["head"], model(images), atol=1e-4)


def test_a_wrapper_and_an_objective_are_refused_with_what_to_do(tmp_path, images):
    wrapper = Wrapper(toy_encoder())
    wrapper(images)
    wrapper.save(tmp_path / "wrapper.keras")
    with pytest.raises(UserError, match=r"class Wrapper.*model\.encoder\.save\('encoder\.keras'\)"):
        zoo.load(tmp_path / "wrapper.keras")
    with pytest.raises(UserError, match=r"class Wrapper.*model\.encoder\.save"):
        export.export(wrapper, tmp_path / "out")
    objective = DeepInfoMax(toy_encoder(), critic_width=4)
    objective.compile(keras.optimizers.SGD(0.1))
    objective.save(tmp_path / "objective.keras")
    with pytest.raises(UserError, match=r"saved objective, DeepInfoMax.*model\.encoder\.save\('encoder\.keras'\)"):
        zoo.load(tmp_path / "objective.keras")
    keras.saving.load_model(tmp_path / "objective.keras").encoder.save(tmp_path / "encoder.keras")
    assert zoo.load(tmp_path / "encoder.keras").output["fc"].shape == (None, 16)


IN_A_NEW_PROCESS = """
import re, sys
import mizoo
for file in ("any_size.keras", "augmenting.keras"):
    mizoo.load(file)
import keras
missing = [name for name in sys.argv[1:] if keras.saving.get_registered_object(f"mizoo>{name}") is None]
assert not missing, missing
path = "objective.keras"
try:
    mizoo.load(path)
except mizoo.UserError as error:
    for code in re.findall("`(.*?)`", str(error)):
        exec(code)
mizoo.load("encoder.keras")
"""


def test_files_with_classes_of_the_package_load_in_a_new_process(tmp_path):
    """Those of every class that an encoder can hold, and by the words of the refusal what a saved objective holds."""
    outside = {PACKAGE / "optimizers.py", PACKAGE / "recipes/schedules.py", *(PACKAGE / "objectives").glob("*.py")}
    registered = re.compile(r"@keras\.saving\.register_keras_serializable\(\"mizoo\"\)\n(?:@.*\n)*class (\w+)")
    names = [name for file in set(PACKAGE.rglob("*.py")) - outside for name in registered.findall(file.read_text())]
    assert {"Fit", "Augment", "Flip", "Noise"} <= set(names)
    encoder = any_size(toy_encoder())
    encoder.save(tmp_path / "any_size.keras")
    augmenting = keras.Sequential([keras.Input((32, 32, 3)), augment.layer("dim"), keras.layers.Flatten()])
    augmenting.compile(optimizers.Muon(Trapezoid(0.1, 10)), "mse")
    augmenting.save(tmp_path / "augmenting.keras")
    objective = SimCLR(encoder, augment=augment.preset("views", side=32))
    objective.compile(optimizers.Muon(Trapezoid(0.1, 10)))
    objective.save(tmp_path / "objective.keras")
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, *names], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_class_that_is_not_registered_is_refused_with_what_to_do(tmp_path, monkeypatch):
    from keras.src.saving import object_registration

    wrapper = Wrapper(toy_encoder())
    wrapper(np.zeros((1, 32, 32, 3)))
    wrapper.save(tmp_path / "wrapper.keras")
    monkeypatch.delitem(object_registration.GLOBAL_CUSTOM_OBJECTS, "tests>Wrapper")
    with pytest.raises(UserError, match=r"cannot be loaded.*Wrapper"):
        zoo.load(tmp_path / "wrapper.keras")


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("kind", ["list", "two inputs", "never built", "nested"])
def test_what_is_no_encoder_is_refused_for_its_reason(tmp_path, kind):
    image, number = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    model, says = {
        "list": lambda: (keras.Model(image, [image + 1, image + 2]), "returns a list of 2"),
        "two inputs": lambda: (keras.Model([image, number], image + number), "one input.* has 2"),
        "never built": lambda: (keras.Sequential([keras.layers.Dense(2)]), "never built.*keras.Input"),
        "nested": lambda: (keras.Model(image, {"a": [image + 1, image + 2]}), "'a' is several"),
    }[kind]()
    model.save(tmp_path / "x.keras")
    with pytest.raises(UserError, match=f"x.keras holds no encoder.*{says}"):
        zoo.load(tmp_path / "x.keras")
