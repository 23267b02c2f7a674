"""A converted ONNX graph made ready to publish: weights in half precision, fixed names and order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mizoo.export.keras_file import as_half

if TYPE_CHECKING:
    import onnx


def finish_graph(
    path: str | os.PathLike,
    weights: Sequence[np.ndarray],
    names: Sequence[str],
    endpoints: Mapping[str, Sequence[int | None]],
    input_name: str = "images",
) -> onnx.ModelProto:
    """Give a graph its weights, and names that depend on its structure alone.

    Args:
        path: an ONNX file whose inputs are `input_name` and the weights "w0", "w1", ...
        weights: the values of the weights.
        names: what the initialisers are called.
        endpoints: output name -> shape without the batch, in the order that the file shall have.
        input_name: what the input is called.

    Returns:
        The model with that as its one input. The weights are initialisers, in float16 with a Cast where that
        loses nothing.
    """
    import onnx

    model = onnx.load(os.fspath(path))
    graph = model.graph
    inputs = {f"w{i}": (name, np.asarray(value)) for i, (name, value) in enumerate(zip(names, weights, strict=True))}
    images = next(value for value in graph.input if value.name == input_name)
    _set_shape(images, images.type.tensor_type.elem_type, [d.dim_value or None for d in _dims(images)[1:]])
    outputs = []
    for name, shape in endpoints.items():
        outputs += [value for value in graph.output if value.name == name]
        _set_shape(outputs[-1], onnx.TensorProto.FLOAT, shape)

    casts, stored = [], []
    for name, (title, value) in inputs.items():
        half = as_half(value)
        if half.dtype == value.dtype:
            stored.append(_tensor(value, name, title))
        else:
            stored.append(_tensor(half, f"{name}_half", title))
            casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    titles = {tensor.name: tensor.doc_string for tensor in stored}
    for tensor in stored:
        tensor.doc_string = ""

    nodes = casts + list(graph.node)
    initializers = stored + list(graph.initializer)
    ordered, initializers = _in_order(nodes, initializers, list(endpoints), titles, input_name)
    for field, values in (("node", ordered), ("initializer", initializers), ("input", [images]), ("output", outputs)):
        # A repeated field is emptied only once what it held has been copied.
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del getattr(graph, field)[:]
        getattr(graph, field).extend(copies)
    del graph.value_info[:]
    graph.name = "encoder"
    graph.doc_string = ""  # holds a number that grows through the life of the process
    return model


def _dims(value: onnx.ValueInfoProto) -> list[onnx.TensorShapeProto.Dimension]:
    return list(value.type.tensor_type.shape.dim)


def _set_shape(value: onnx.ValueInfoProto, dtype: int, shape: Sequence[int | None]) -> None:
    import onnx

    free = [size if size else f"{value.name}_{axis}" for axis, size in enumerate(shape, start=1)]
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, dtype, ["batch", *free]))


def _tensor(value: np.ndarray, name: str, title: str) -> onnx.TensorProto:
    import onnx

    tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
    tensor.doc_string = title
    return tensor


def _in_order(
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    outputs: list[str],
    titles: Mapping[str, str],
    input_name: str,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and initialisers in the order in which the outputs need them, renamed; unused ones are left out.

    The converter numbers its names through the life of the process, so they differ from one export to the next.
    """
    producers = {name: node for node in nodes for name in node.output}
    tensors = {tensor.name: tensor for tensor in initializers}
    new_names = {"": "", input_name: input_name, **{name: name for name in outputs}}
    ordered: list[onnx.NodeProto] = []
    used: list[onnx.TensorProto] = []
    done: set[int] = set()
    stack: list[tuple[str, bool]] = [(name, False) for name in reversed(outputs)]
    while stack:  # depth first; a deep network would exhaust Python's recursion
        name, inputs_done = stack.pop()
        node = producers.get(name)
        if node is None:
            if name in tensors and name not in new_names:
                new_names[name] = titles.get(name, f"constant_{len(used)}")
                used.append(tensors[name])
        elif id(node) not in done:
            if inputs_done:
                done.add(id(node))
                for k, output in enumerate(node.output):
                    new_names.setdefault(output, _value_name(node, k, new_names, titles, len(ordered)))
                ordered.append(node)
            else:
                stack.append((name, True))
                stack += [(value, False) for value in reversed([*node.input, *_captured(node)])]
    for i, node in enumerate(ordered):
        _rename(node, f"{node.op_type}_{i}", new_names)
    for tensor in used:
        tensor.name = new_names[tensor.name]
    return ordered, used


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node, such as the body of a loop."""
    return [body for a in node.attribute for body in ([a.g] if a.HasField("g") else []) + list(a.graphs)]


def _captured(node: onnx.NodeProto) -> list[str]:
    """Values from outside that the graphs inside a node use."""
    captured: list[str] = []
    for body in _bodies(node):
        inside = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        inside |= {name for child in body.node for name in child.output}
        used = [name for child in body.node for name in [*child.input, *_captured(child)]]
        captured += [name for name in used + [value.name for value in body.output] if name and name not in inside]
    return list(dict.fromkeys(captured))


def _settle_copies(body: onnx.GraphProto) -> None:
    """Of two outputs that are a value and its copy, let the first be the value: the converter takes either."""
    positions = {value.name: i for i, value in enumerate(body.output)}
    for child in body.node:
        if child.op_type == "Identity" and child.input[0] in positions and child.output[0] in positions:
            value, copy = positions[child.input[0]], positions[child.output[0]]
            if copy < value:
                body.output[copy].name, body.output[value].name = child.input[0], child.output[0]


def _rename(node: onnx.NodeProto, title: str, names: Mapping[str, str]) -> None:
    """Give a node its name and its values theirs, and everything inside it names by its position there."""
    node.name = title
    node.input[:] = [names[name] for name in node.input]
    node.output[:] = [names[name] for name in node.output]
    for number, body in enumerate(_bodies(node)):
        inner = f"{title}/{number}" if number else title
        _settle_copies(body)
        known = dict(names)
        known |= {value.name: f"{inner}/input_{i}" for i, value in enumerate(body.input)}
        known |= {tensor.name: f"{inner}/constant_{i}" for i, tensor in enumerate(body.initializer)}
        for i, child in enumerate(body.node):
            known |= {name: f"{inner}/{child.op_type}_{i}:{k}" for k, name in enumerate(child.output) if name}
        for i, child in enumerate(body.node):
            _rename(child, f"{inner}/{child.op_type}_{i}", known)
        for value in [*body.input, *body.output]:
            value.name = known[value.name]
            value.doc_string = ""
            for dimension in _dims(value):
                dimension.ClearField("dim_param")  # a number that grows through the life of the process
        for tensor in body.initializer:
            tensor.name = known[tensor.name]
        del body.value_info[:]
        body.name, body.doc_string = inner, ""


def _value_name(
    node: onnx.NodeProto, output: int, new_names: Mapping[str, str], titles: Mapping[str, str], position: int
) -> str:
    if node.op_type == "Cast" and node.input[0] in titles:
        return f"{new_names[node.input[0]]}:float32"
    return f"{node.op_type}_{position}:{output}"
