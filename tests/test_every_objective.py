"""Every objective and every encoder that a recipe can name, by the tables of `mizoo.recipes`: listed is tested.

A new one needs settings that make it small in `SMALL` only if its own are too large for a toy.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from support.encoders import TOY, toy_encoder

from mizoo import augment, data, encoders, recipes
from mizoo._tools import keras_private
from mizoo._tools.import_path import import_object
from mizoo.export.keras_file import check_stock
from mizoo.recipes import ENCODERS, OBJECTIVES

TARGET_SIZE = 7
TEACHERS = [["simclr_cifar10", "fc"]]
SMALL = {
    "deep_infomax": {"critic_width": 12, "global_weight": 0.5, "prior": "gaussian", "coordinates_weight": 0.1},
    "cpc": {"steps": 2, "context_size": 4, "context_blocks": 1, "patch_augment": "patches"},
    "deep_co_training": {"hidden": [8], "family": "logistic", "beta": 0.1, "inner_steps": 2},
    "simclr": {"temperature": 0.2},
    "distillation": {"head_width": 9, "teachers": TEACHERS},
    "conv32": TOY,
    "conv64": {"widths": [4, 6, 8, 8, 6], "fc_sizes": [16, 12], "global_size": 5},
    "resnet18": {"width": 0.0625, "head_size": 8, "global_size": 5},
    "patch_grid": {"side": 16, "width": 4, "size": 6, "blocks": 1},
    "three_stage": {"widths": [4, 6, 8], "head_size": 8, "global_size": 5},
    "waveform": {"sampling_rate": 8000, "widths": [4, 6, 8, 8], "context_size": 5},
    "log_mel": {"sampling_rate": 8000, "mels": 8, "widths": [3, 4], "frame_size": 6, "context_size": 5},
}
NEEDED = {"distillation": {"teachers": TEACHERS}}  # keys without a default
OBJECTS = {"encoder", "augment", "patch_augment", "seed", "name"}  # arguments that are no plain values
NOT_IN_RECIPES = {  # arguments that a recipe leaves at their defaults, or that the run gives
    "distillation": {"teacher_size"},
    "supervised": {"classes"},
    **dict.fromkeys(("vae", "aae"), {"decoder"}),
}
ALL = [pytest.param(table, name, id=name) for table in (OBJECTIVES, ENCODERS) for name in table]
SHOWN_TO = {"pictures": "conv32", "sounds": "waveform"}


def settings_of(name: str):
    """The section of a recipe with the toy's settings."""
    table = OBJECTIVES if name in OBJECTIVES else ENCODERS
    return table[name](name=name, **SMALL.get(name, {}))


def plain(value):
    """A value with lists in the place of tuples."""
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def plain_settings(model) -> dict:
    """The configuration of an objective without its networks, which Keras writes with other names of classes."""
    return {key: value for key, value in model.get_config().items() if key not in ("encoder", "decoder")}


def toys(name: str) -> list[tuple[str, keras.Model, np.ndarray]]:
    """Small encoders that an objective takes, each with inputs; CPC takes grids, sequences and sounds."""
    rng = np.random.default_rng(3)
    keras.utils.set_random_seed(1)
    if name == "cpc":
        return [
            ("grid", settings_of("patch_grid").build(), rng.integers(0, 256, (8, 16, 16, 3), dtype="uint8")),
            ("series", encoders.series(3, width=7, context_size=5), rng.random((8, 6, 3), dtype="float32")),
            ("waveform", settings_of("waveform").build(), rng.uniform(-0.5, 0.5, (8, 640)).astype("float32")),
            ("log_mel", settings_of("log_mel").build(), rng.uniform(-0.5, 0.5, (8, 800)).astype("float32")),
        ]
    return [("pictures", toy_encoder(), rng.integers(0, 256, (8, 32, 32, 3), dtype="uint8"))]


@pytest.mark.parametrize("table, name", ALL)
def test_a_key_of_a_recipe_has_the_default_of_the_argument_that_it_sets(table, name):
    kind = table[name]
    assert kind.model_fields["name"].default == name
    keys = {key: field for key, field in kind.model_fields.items() if key not in ("name", *kind.recipe_only)}
    arguments = inspect.signature(import_object(kind.builds)).parameters
    assert set(keys) <= set(arguments)
    for key, field in keys.items():
        if key not in OBJECTS:
            assert plain(field.default) == plain(arguments[key].default), key
    assert set(arguments) - set(keys) - OBJECTS == NOT_IN_RECIPES.get(name, set())


@pytest.mark.parametrize("table, name", ALL)
def test_a_recipe_survives_being_written_and_read(table, name, tmp_path):
    content = {"name": "toy", "data": {"source": "cifar10", "augment": "views"}}
    if table is OBJECTIVES:
        content["objective"] = {"name": name, **NEEDED.get(name, {})}
        encoder = next(key for takes, key in SHOWN_TO.items() if takes in OBJECTIVES[name].takes)
    else:
        encoder = name
        content["objective"] = {"name": "cpc", "steps": 2} if ENCODERS[name].takes == "sounds" else {}
    content["encoder"] = {"name": encoder, **SMALL[encoder]}
    if ENCODERS[encoder].takes == "sounds":
        content["data"] = {"source": "spoken_digit", "augment": "none", "window": 640}
    recipe = recipes.validate(content)
    (tmp_path / "toy.yaml").write_text(recipe.dump())
    again = recipes.load(tmp_path / "toy.yaml")
    assert again == recipe and again.identity() == recipe.identity()
    chosen = again.objective if table is OBJECTIVES else again.encoder
    assert type(chosen) is table[name]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_says_where_it_comes_from_and_what_it_takes(name):
    settings = settings_of(name)
    assert re.search(r"\b(19|20)\d\d\b", settings.paper)
    assert settings.takes and set(settings.takes) <= set(SHOWN_TO)
    assert settings.views >= 1
    assert [(phase.start, phase.last) for phase in settings.phases(1, 4)] == [(1, 4)]
    assert settings.check_length(4) == ""


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_trains_a_step_stays_below_its_ceilings_and_is_saved_whole(name, tmp_path):
    settings = settings_of(name)
    for kind, encoder, inputs in toys(name):
        if kind in ("series", "waveform", "log_mel"):
            settings = settings.model_copy(update={"patch_augment": "none"})
        views = augment.preset("views") if settings.views > 1 else None
        takes_targets = settings.teacher_endpoints or settings.takes_labels
        model = settings.build(encoder, views, 0, TARGET_SIZE if takes_targets else None)
        assert (model.views, bool(model.term_names)) == (settings.views, True)
        assert set(model.get_config()) == set(inspect.signature(type(model)).parameters)
        model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
        assert bool(settings.second_optimizer) == hasattr(model.optimizer, "optimizers")
        targets = {}
        if settings.takes_labels:
            targets["targets"] = np.eye(TARGET_SIZE, dtype="float32")[[0, 1, 2, 3, 4, 5, 6, 0]]
        elif settings.teacher_endpoints:
            drawn = np.random.default_rng(5).standard_normal((8, TARGET_SIZE))
            targets["targets"] = drawn.astype("float32")
        batches = data.batches(inputs, batch_size=8, noise_size=model.noise_size, **targets)
        before = [ops.convert_to_numpy(v).copy() for v in model.encoder.trainable_variables]
        logs = model.fit(batches, epochs=1, verbose=0).history
        assert set(logs) == {"loss", *model.term_names} and np.isfinite(list(logs.values())).all()
        moved = [not np.array_equal(a, b) for a, b in zip(before, model.encoder.trainable_variables)]
        assert sum(moved) > len(moved) / 2
        ceilings = model.ceilings(8)
        assert set(ceilings) <= set(model.term_names)
        assert all(logs[key][0] <= ceiling + 1e-5 for key, ceiling in ceilings.items())

        model.save(tmp_path / f"{kind}.keras")
        again = keras.saving.load_model(tmp_path / f"{kind}.keras")
        assert type(again) is type(model)
        assert plain_settings(again) == plain_settings(model)
        variables = (each.variables + each.optimizer.variables for each in (model, again))
        for old, new in zip(*variables, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(old), ops.convert_to_numpy(new), err_msg=old.path)
        assert int(again.optimizer.iterations) == 1
        terms, same_terms = (each.forward(*each.unpack(batches[0]))[1] for each in (model, again))
        for key in ("loss", *model.term_names):
            assert float(same_terms[key]) == pytest.approx(float(terms[key]), rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_a_plain_float32_model_of_named_endpoints(name, rng):
    encoder = settings_of(name).build()
    assert keras_private.is_functional(encoder) and encoder.name == name
    check_stock(encoder)
    if ENCODERS[name].endpoints:
        assert tuple(encoder.output) == ENCODERS[name].endpoints
    if ENCODERS[name].takes == "sounds":
        inputs = rng.uniform(-0.5, 0.5, (3, 640)).astype("float32")
    else:
        inputs = rng.integers(0, 256, (3, *encoder.input_shape[1:]), dtype="uint8")
    values = {key: ops.convert_to_numpy(value) for key, value in encoder(inputs).items()}
    assert {(value.dtype.name, len(value)) for value in values.values()} == {("float32", 3)}
    assert all(np.isfinite(value).all() for value in values.values())
    one = {key: ops.convert_to_numpy(value) for key, value in encoder(inputs[1:2]).items()}
    for key, value in values.items():
        np.testing.assert_allclose(one[key][0], value[1], atol=1e-4, err_msg=key)  # a row depends on itself alone


def test_every_encoder_that_the_package_exports_is_in_the_table_but_that_of_series():
    exported = {name for name in encoders.__all__ if inspect.isfunction(getattr(encoders, name))}
    assert exported - {"series", "decoder", "fit_statistics"} == set(ENCODERS)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_page_of_recipes_describes_every_objective(name):
    page = (Path(__file__).resolve().parents[1] / "docs/recipes.md").read_text(encoding="utf-8")
    text = page.split("### objective\n")[1].split("\n### ")[0]
    names, _, table = text.partition("| objective |")
    assert f"`{name}`" in names and f"\n| `{name}` |" in table
    assert all(f"`{key}`" in table for key in OBJECTIVES[name].model_fields if key != "name")


def numpy_whole(value):
    """A value with NumPy's whole numbers in the place of Python's."""
    if isinstance(value, (list, tuple)):
        return [numpy_whole(each) for each in value]
    return np.int64(value) if type(value) is int else value


@pytest.mark.parametrize("table, name", ALL)
def test_whole_numbers_of_numpy_are_those_of_python(table, name):
    """Such as arguments that were read from the shape of an array."""
    settings = settings_of(name)
    if table is ENCODERS:
        build = import_object(settings.builds)
        assert build(**numpy_whole(SMALL[name])).output_shape == build(**SMALL[name]).output_shape
        return
    _, encoder, _ = toys(name)[0]
    views = augment.preset("views") if settings.views > 1 else None
    takes_targets = settings.teacher_endpoints or settings.takes_labels
    model = settings.build(encoder, views, 0, TARGET_SIZE if takes_targets else None)
    given = {key: getattr(model, key) for key in model.settings}
    again = type(model)(encoder, augment=views, **{key: numpy_whole(value) for key, value in given.items()})
    assert {key: getattr(again, key) for key in model.settings} == given
    assert [v.shape for v in again.variables] == [v.shape for v in model.variables]
