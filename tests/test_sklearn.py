"""`mizoo.sklearn.Features` in the tools of scikit-learn: pipelines, searches, pickles, tables of paths."""

from __future__ import annotations

import pickle
import shutil

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn")

from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from mizoo import zoo
from mizoo.errors import UserError
from mizoo.sklearn import Features

SMALL = "cpc_cifar10"


@pytest.fixture(scope="module")
def images():
    """Two kinds of pictures: stripes along and across, with noise."""
    rng = np.random.default_rng(0)
    stripes = np.tile((np.arange(32) // 4 % 2 * 120 + 60)[:, None, None], (1, 32, 3))
    whole = [stripes.transpose(1, 0, 2) if i % 2 else stripes for i in range(40)]
    return np.clip(np.stack(whole) + rng.normal(0, 40, (40, 32, 32, 3)), 0, 255).astype("uint8")


LABELS = np.arange(40) % 2


@pytest.mark.parametrize(("runtime", "endpoint"), [("onnx", "local"), ("onnx", "global"), ("keras", "global")])
def test_columns_are_the_endpoint_flattened(images, runtime, endpoint):
    if runtime == "keras":
        pytest.importorskip("keras")
    features = Features(SMALL, endpoint, runtime, batch_size=7)
    wanted = zoo.load(SMALL, endpoint, runtime="onnx")(images).reshape(40, -1)
    got = features.fit_transform(images)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert got.dtype == np.float32
    names = features.get_feature_names_out()
    assert len(set(names)) == features.n_features_out_ == got.shape[1]
    assert names[0] == f"{endpoint}_0"
    np.testing.assert_allclose(Features(SMALL, endpoint, runtime).transform(images[:3]), got[:3], atol=1e-5)


def test_paths_are_read_as_embed_reads_them(images, tmp_path, photos):
    paths = [tmp_path / f"{i}.png" for i in range(len(photos))]
    for path, picture in zip(paths, photos):
        Image.fromarray(picture).save(path)
    from mizoo.embed import embed

    embed(SMALL, paths, tmp_path / "features.npz", "fc", "onnx", progress=False)
    wanted = np.load(tmp_path / "features.npz")["fc"]
    for given in (paths, [str(path) for path in paths], np.array(paths), np.array([[str(path)] for path in paths])):
        np.testing.assert_allclose(Features(SMALL, batch_size=3).fit_transform(given), wanted, atol=1e-5)
    pandas = pytest.importorskip("pandas")
    column = pandas.DataFrame({"path": [str(path) for path in paths]})
    np.testing.assert_allclose(Features(SMALL).fit_transform(column), wanted, atol=1e-5)
    with pytest.raises(UserError, match="missing"):
        Features(SMALL).transform([*paths, tmp_path / "missing.png"])


def test_deep_files_take_their_bits_and_are_told_once_without(images, tmp_path):
    paths = [tmp_path / f"{i}{suffix}" for suffix in (".bmp", ".png") for i in range(4)]
    for i in range(4):
        Image.fromarray(images[i, ..., 0]).save(paths[i])
        Image.fromarray(images[i, ..., 0].astype("uint16") * 16).save(paths[4 + i])
    values = Features(SMALL, batch_size=3, depth=12, max_pixels=1024).transform(paths)
    np.testing.assert_allclose(values[4:], values[:4], atol=0.05)
    with pytest.warns(UserWarning, match=r"0\.png: .*3 more of 8 files") as told:
        dark = Features(SMALL, batch_size=3).transform(paths)
    assert len(told) == 1 and np.abs(dark[4:] - values[4:]).max() > 0.5
    with pytest.raises(UserError, match="more than 1,023"):
        Features(SMALL, max_pixels=1023).transform(paths)


def test_a_search_over_name_endpoint_and_strength_runs_in_two_processes(images):
    model = make_pipeline(Features(SMALL), StandardScaler(), LogisticRegression(max_iter=200))
    grid = {
        "features__name": [SMALL, "simclr_cifar10"],
        "features__endpoint": ["fc", "global"],
        "logisticregression__C": [0.01, 1.0],
    }
    search = GridSearchCV(model, grid, n_jobs=2, cv=2, error_score="raise").fit(images, LABELS)
    assert len(search.cv_results_["params"]) == 8
    assert search.score(images, LABELS) == 1.0


def test_a_fitted_pipeline_survives_pickling_and_joblib(images, tmp_path):
    model = make_pipeline(Features(SMALL), StandardScaler(), LogisticRegression()).fit(images, LABELS)
    wanted = model.predict_proba(images)
    content = pickle.dumps(model)
    assert len(content) < 100_000  # the classifier, and no weights of the encoder
    np.testing.assert_array_equal(pickle.loads(content).predict_proba(images), wanted)
    joblib.dump(model, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(images), wanted)


def test_another_encoder_under_the_old_name_is_refused(images, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(zoo.path(SMALL, "encoder.onnx"), folder / "encoder.onnx")
    content = pickle.dumps(Features(str(folder)).fit(images))
    shutil.copy(zoo.path("simclr_cifar10", "encoder.onnx"), folder / "encoder.onnx")
    with pytest.raises(UserError, match="not the encoder that was fitted"):
        pickle.loads(content).transform(images)
    assert pickle.loads(content).fit(images).transform(images).shape == (40, 256)


def test_changed_parameters_change_the_features(images):
    features = Features(SMALL).fit(images)
    assert features.transform(images).shape == (40, 768)
    assert features.set_params(endpoint="global").transform(images).shape == (40, 192)
    for size in (0, -1, 2.5):
        with pytest.raises(UserError, match="batch_size"):
            clone(features).fit(images).set_params(batch_size=size).transform(images)
    copy = clone(features)
    assert copy.get_params() == features.get_params() and not hasattr(copy, "encoder_sha256_")
    both = make_union(Features(SMALL), Features(SMALL, "global")).fit(images)
    assert both.transform(images).shape == (40, 960)
    assert len(set(both.get_feature_names_out())) == 960


def test_sounds_come_as_an_array():
    sounds = np.random.default_rng(0).uniform(-1, 1, (3, 4000)).astype("float32")
    features = Features("cpc_spoken_digit", "global").fit(sounds)
    assert features.transform(sounds).shape == (3, 256)
    with pytest.raises(UserError, match="depends on the input"):
        Features("cpc_spoken_digit", "local").fit(sounds)
    with pytest.raises(UserError, match="Paths are of pictures"):
        features.transform(["one.wav"])


@pytest.mark.parametrize(
    ("settings", "X", "says"),
    [
        ({"endpoint": "fcc"}, None, "no endpoint 'fcc'"),
        ({"endpoint": None}, None, "one endpoint"),
        ({"name": "cpc_cifar"}, None, "Did you mean"),
        ({"batch_size": 0}, None, "batch_size"),
        ({}, np.zeros((2, 28, 28, 1), "uint8"), "32"),
        ({}, np.zeros((2, 3072), "uint8"), "32"),
        ({}, "one.png", "in a list"),
    ],
)
def test_a_slip_is_answered_when_something_is_done_and_not_before(images, settings, X, says):
    features = Features(**{"name": SMALL, **settings})
    with pytest.raises(UserError, match=says):
        features.fit(images)
        features.transform(X)


CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_conventions_of_scikit_learn_that_do_not_need_a_table_of_numbers(check):
    """`check_estimator` runs nothing else for an estimator that takes no 2-D arrays."""
    before = Features(SMALL)
    getattr(estimator_checks, check)("Features", before)  # which asserts
    assert before.get_params() == Features(SMALL).get_params()
