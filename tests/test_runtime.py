"""ONNX Runtime: the features of the Keras encoder, bad input refused before it reaches the graph, no Keras import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from support.encoders import ENDPOINTS, publish

from mizoo.errors import UserError
from mizoo.zoo.onnx_encoder import OnnxEncoder


@pytest.fixture(scope="session")
def published():
    return publish()


@pytest.fixture
def images():
    return np.random.default_rng(5).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)


def test_the_encoder_describes_itself(published):
    encoder = OnnxEncoder(published.onnx_file, name="small_net")
    assert encoder.name == "small_net"
    assert encoder.input_shape == (None, 32, 32, 3)
    assert {key: list(shape[1:]) for key, shape in encoder.output_shapes.items()} == ENDPOINTS
    assert OnnxEncoder(published.onnx_file, "fc").endpoints == ("fc",)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_any_numeric_type_gives_the_features_of_keras(published, images, dtype):
    got = OnnxEncoder(published.onnx_file)(images.astype(dtype))
    for key, wanted in published.model(images).items():
        assert got[key].dtype == np.float32
        np.testing.assert_allclose(got[key], wanted, atol=1e-5)


@pytest.mark.parametrize("endpoint", [None, "conv"])
def test_predict_in_batches_equals_one_call(published, images, endpoint):
    encoder = OnnxEncoder(published.onnx_file, endpoint)
    whole, parts = encoder(images), encoder.predict(images, batch_size=3)
    if endpoint:
        whole, parts = {endpoint: whole}, {endpoint: parts}
    assert list(whole) == list(parts)
    for key in whole:
        np.testing.assert_allclose(parts[key], whole[key], atol=1e-5)


@pytest.mark.parametrize("method", ["__call__", "predict"])
@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((32, 32, 3), np.uint8), r"images\[None\]"),
        (np.zeros((0, 32, 32, 3), np.uint8), "no picture"),
        (np.full((2, 32, 32, 3), np.nan), "NaN"),
        (np.full((2, 32, 32, 3), 400.0), "0..255"),
    ],
)
def test_bad_input_is_refused(published, method, images, says):
    with pytest.raises(UserError, match=says):
        getattr(OnnxEncoder(published.onnx_file), method)(images)


def test_scaled_pictures_give_one_warning_that_points_at_the_caller(published, images):
    encoder = OnnxEncoder(published.onnx_file)
    for call in (encoder, lambda x: encoder.predict(x, batch_size=2)):
        with pytest.warns(UserWarning, match="0..1") as caught:
            call(images / 255)
        assert len(caught) == 1
        assert caught[0].filename == __file__


def test_mistakes_in_the_arguments_are_explained(published, images):
    with pytest.raises(UserError, match="no endpoint 'fcc'.*fc"):
        OnnxEncoder(published.onnx_file, "fcc")
    with pytest.raises(UserError, match="at least 1"):
        OnnxEncoder(published.onnx_file).predict(images, batch_size=0)
    with pytest.raises(UserError, match="`threads`"):
        OnnxEncoder(published.onnx_file, threads=0)
    with pytest.raises(UserError, match="Available: .*CPUExecutionProvider"):
        OnnxEncoder(published.onnx_file, providers=["AbacusExecutionProvider"])
    with pytest.raises(UserError, match="No such file"):
        OnnxEncoder(published.root / "nowhere.onnx")


def test_a_graph_that_takes_no_pictures_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(UserError, match="is no encoder"):
        OnnxEncoder(tmp_path / "x.onnx")


def pooling(path, shape, half=False):
    """An ONNX file that averages over windows of three along the first axis after the batch."""
    import onnx
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    axes, kernel = len(shape) - 2, [3] + [1] * (len(shape) - 3)
    last, first = [0, axes + 1, *range(1, axes + 1)], [0, *range(2, axes + 2), 1]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=last),
        helper.make_node("AveragePool", ["t"], ["p"], kernel_shape=kernel),
        helper.make_node("Transpose", ["p"], ["u"], perm=first),
        helper.make_node("Cast", ["u"], ["fc"], to=kind),
    ]
    free = [shape[0], *[f"y{i}" for i in range(axes)], shape[-1]]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", [taken], [helper.make_tensor_value_info("fc", kind, free)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    return path


def test_a_graph_of_one_batch_size_takes_any_number_of_pictures(tmp_path, images):
    expected = OnnxEncoder(pooling(tmp_path / "any.onnx", ["n", 32, 32, 3]))(images)["fc"]
    for name, batch in (("one", 1), ("four", 4)):
        fixed = OnnxEncoder(pooling(tmp_path / f"{name}.onnx", [batch, 32, 32, 3]))
        for found in (fixed(images), fixed.predict(images, batch_size=3)):
            np.testing.assert_array_equal(found["fc"], expected)
    half = OnnxEncoder(pooling(tmp_path / "half.onnx", ["n", 32, 32, 3], half=True))(images)["fc"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [["n", "h", "w", 3], ["n", "t", 3]])
def test_what_is_smaller_than_a_kernel_is_named_by_its_shape(tmp_path, shape):
    encoder = OnnxEncoder(pooling(tmp_path / "small_net.onnx", shape))
    with pytest.raises(UserError, match=r"small_net could not encode .* of the shape \(1, 2, "):
        encoder(np.zeros([1, 2, 2, 3][: len(shape) - 1] + [3], np.float32))


def test_keras_is_never_imported(published):
    program = (
        "import sys, numpy; from mizoo import zoo\n"
        f"zoo.load({str(published.onnx_file)!r}, runtime='onnx')(numpy.zeros((1, 32, 32, 3), 'uint8'))\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'scipy', 'matplotlib', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
