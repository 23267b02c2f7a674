"""Distillation against a direct loop, its teachers, and runs that learn from them."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from support.encoders import TOY, toy_encoder

from mizoo import data, recipes, teachers
from mizoo.errors import UserError
from mizoo.evaluate.features import features
from mizoo.objectives import Distillation
from mizoo.pretrain import pretrain
from mizoo.runs.folder import TARGETS


def pictures(rng, size: int = 12) -> np.ndarray:
    return rng.integers(0, 256, (size, 32, 32, 3), dtype="uint8")


@pytest.fixture
def teacher(tmp_path) -> str:
    toy_encoder(3).save(tmp_path / "teacher.keras")
    return str(tmp_path / "teacher.keras")


def test_the_terms_are_infonce_by_a_direct_double_loop(rng):
    model = Distillation(toy_encoder(), 7, endpoints=("conv", "global"), temperature=0.2, head_width=9)
    images, targets = pictures(rng, 6).astype("float32"), rng.standard_normal((6, 7)).astype("float32")
    loss, terms = model.compute_terms(images, targets)
    found = model.encoder(images, training=True)
    values = []
    for key in ("conv", "global"):
        z = ops.convert_to_numpy(model.heads[key](found[key], training=True))
        total = 0.0
        for i in range(6):
            cosine = [z[i] @ t / np.linalg.norm(z[i]) / np.linalg.norm(t) / 0.2 for t in targets]
            total += cosine[i] - np.log(np.mean(np.exp(cosine)))
        values.append(total / 6)
        assert float(terms[f"{key}_mi"]) == pytest.approx(values[-1], abs=1e-4)
    assert float(loss) == pytest.approx(-np.mean(values), abs=1e-4)
    assert model.ceilings(6) == pytest.approx({"conv_mi": np.log(6), "global_mi": np.log(6)})


def test_it_trains_towards_the_teacher(rng):
    images, targets = pictures(rng, 8), rng.standard_normal((8, 7)).astype("float32")
    model = Distillation(toy_encoder(), 7, head_width=9)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(data.batches(images, batch_size=8, targets=targets), epochs=15, verbose=0).history
    for key in ("conv_mi", "fc_mi", "global_mi"):
        assert history[key][0] + 0.2 < history[key][-1] <= np.log(8) + 1e-5


def test_each_picture_keeps_its_own_target(rng):
    images, targets = pictures(rng), rng.standard_normal((12, 3)).astype("float32")
    batches = data.batches(images, batch_size=5, noise_size=2, targets=targets)
    for index in range(4):
        batch = batches[index]
        for image, target in zip(batch["images"], batch["targets"], strict=True):
            place = next(i for i in range(12) if np.array_equal(images[i], image))
            np.testing.assert_array_equal(target, targets[place])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"endpoints": ()}, "names one at least"),
        ({"endpoints": ("fc", "fc")}, "none twice"),
        ({"endpoints": ("head",)}, "no endpoint head; it has local, conv, fc, global"),
        ({"temperature": 0.0}, "`temperature` is above 0"),
        ({"teacher_size": 0}, "`teacher_size` is above 0"),
    ],
)
def test_impossible_arguments_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        Distillation(toy_encoder(), **{"teacher_size": 4, **arguments})


def test_a_batch_without_the_teachers_vectors_is_refused(rng):
    model = Distillation(toy_encoder(), 7, head_width=9)
    for batch in (pictures(rng), {"images": pictures(rng)}):
        with pytest.raises(UserError, match="brings the teacher's vectors, 7 columns. Received: none"):
            model.unpack(batch)
    with pytest.raises(UserError, match="Received: 3 columns"):
        model.unpack({"images": pictures(rng), "targets": np.zeros((12, 3), "float32")})
    with pytest.raises(UserError, match="one target for each of 12 pictures. Received: 3"):
        data.batches(pictures(rng), batch_size=4, targets=np.zeros((3, 7)))


def test_targets_are_the_means_over_views_put_on_one_scale(rng, teacher):
    images = pictures(rng)
    found = teachers.targets([(teacher, "global"), (teacher, "fc")], images, views=1).astype("float64")
    loaded = keras.saving.load_model(teacher, compile=False)(images.astype("float32"))
    blocks = []
    for key in ("global", "fc"):
        block = ops.convert_to_numpy(loaded[key]).astype("float64")
        block -= block.mean(0)
        blocks.append(block / np.linalg.norm(block, axis=1).mean())
    expected = np.concatenate(blocks, axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=3e-3)

    several = teachers.targets([(teacher, "global")], images, views=3)
    parts = teachers.targets([(teacher, "global")], images, views=3, batch_size=5)
    np.testing.assert_allclose(parts.astype("float64"), several.astype("float64"), atol=2e-3)
    assert np.abs(several.astype("float64") - teachers.targets([(teacher, "global")], images, views=1)).max() > 0.01
    assert not np.array_equal(several, teachers.targets([(teacher, "global")], images, views=3, seed=1))


def test_wide_endpoints_keep_their_principal_axes(rng, teacher, monkeypatch):
    images = pictures(rng)
    whole = teachers.targets([(teacher, "conv")], images, views=1).astype("float64")
    monkeypatch.setattr(teachers, "SIZE", 11)  # 12 centred pictures span 11 dimensions: nothing may be lost
    kept = teachers.targets([(teacher, "conv")], images, views=1).astype("float64")
    assert whole.shape == (12, 128) and kept.shape == (12, 11)
    np.testing.assert_allclose(kept @ kept.T, whole @ whole.T, atol=5e-3)


def test_teachers_that_cannot_teach_are_named(rng, teacher):
    with pytest.raises(UserError, match="one teacher and one view at least"):
        teachers.targets([], pictures(rng))
    with pytest.raises(UserError, match=r"takes pictures of shape \(32, 32, 3\). Received: \(16, 16, 3\)"):
        teachers.targets([(teacher, "fc")], pictures(rng)[:, :16, :16])
    asked = []
    with pytest.raises(UserError, match="has no endpoint head; it has local, conv, fc, global"):
        teachers.targets([(teacher, "fc"), (teacher, "head")], pictures(rng), advance=asked.append)
    assert not asked  # refused before the first one is asked
    with pytest.raises(UserError, match="named as `mizoo.load` takes it. Received: Functional"):
        teachers.targets([(toy_encoder(), "fc")], pictures(rng))
    with pytest.raises(UserError, match="every picture the same features"):
        teachers.targets([(teacher, "fc")], np.full((77, 32, 32, 3), 91, "uint8"), views=3)


@pytest.fixture
def taught(rng, teacher, tmp_path):
    """A recipe of two epochs with two endpoints of a teacher."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, picture in enumerate(pictures(rng, 24)):
        Image.fromarray(picture).save(folder / f"{i:02d}.png")
    objective = {"name": "distillation", "teachers": [[teacher, "fc"], [teacher, "global"]]}
    return recipes.validate(
        {
            "name": "taught",
            "encoder": TOY,
            "objective": {**objective, "teacher_views": 2, "head_width": 9},
            "data": {"source": str(folder), "augment": "views"},
            "training": {"epochs": 2, "batch_size": 8, "precision": "float32"},
        }
    )


def test_a_run_asks_its_teachers_once_resumes_and_knows_them(taught, teacher, tmp_path, eager):
    whole = pretrain(taught, tmp_path / "whole")
    machine = json.loads((whole / "machine.json").read_text(encoding="utf-8"))
    assert list(machine["teachers"]) == [teacher] and len(machine["teachers"][teacher]) == 64

    parts = tmp_path / "parts"  # with the targets alone, as an interruption before the first checkpoint leaves it
    parts.mkdir()
    shutil.copy(whole / TARGETS, parts)
    asked = (parts / TARGETS).stat().st_mtime_ns
    pretrain(taught, parts, stop_after=1)
    one_epoch = shutil.copytree(parts, tmp_path / "one_epoch")
    pretrain(taught, parts)
    assert (parts / TARGETS).stat().st_mtime_ns == asked
    first, second = (keras.saving.load_model(run / "encoder.keras").get_weights() for run in (whole, parts))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)

    (one_epoch / TARGETS).unlink()
    toy_encoder(5).save(teacher)
    with pytest.raises(UserError, match="other targets than its teachers give now"):
        pretrain(taught, one_epoch)


def test_recipes_of_distillation_name_whom_to_learn_from():
    content = {"name": "a", "objective": {"name": "distillation"}, "data": {"source": "cifar10"}}
    with pytest.raises(UserError, match="`objective.teachers` is missing"):
        recipes.validate(content)
    content["objective"]["teachers"] = [["simclr_cifar10", "nowhere"]]
    with pytest.raises(UserError, match="objective.teachers"):
        recipes.validate(content)
    content["objective"]["teachers"] = [["simclr_cifar10", "fc"]] * 2
    with pytest.raises(UserError, match="`teachers` names one twice"):
        recipes.validate(content)
    content["objective"]["teachers"] = [["simclr_cifar10", "fc"]]
    with pytest.raises(UserError, match="patch_grid` has no endpoint conv"):
        recipes.validate(content | {"encoder": {"name": "patch_grid"}})
    assert recipes.validate(content).objective.teacher_views == 6


def test_an_encoder_that_repeats_its_rows_is_refused(rng):
    images = pictures(rng, 4)
    with pytest.raises(UserError, match="gave 8 rows of `fc` for 4 pictures"):
        features(lambda batch: {"fc": np.zeros((2 * len(batch), 3), "float32")}, images)
