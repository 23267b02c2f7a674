"""Results files: what is kept, what is replaced, what is refused."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from support.rows import a_row

from mizoo._tools.hardware import hardware
from mizoo.errors import UserError
from mizoo.evaluate.rows import merge_rows, read_rows

ROW = a_row(
    protocol="mlp200",
    value=75.57,
    spread=0.12,
    seeds=3,
    settings={"schedule": "fast"},
    command="mizoo evaluate dim --dataset cifar10",
    seconds=12.5,
)


def test_rows_come_back_as_they_went_in(tmp_path):
    path = tmp_path / "results.json"
    merge_rows(path, [ROW])
    assert read_rows(path) == [ROW]


def test_a_second_measurement_replaces_the_first_and_leaves_the_others(tmp_path):
    path = tmp_path / "results.json"
    others = [
        dataclasses.replace(ROW, **change)
        for change in (
            {"encoder": "random"},
            {"endpoint": "conv"},
            {"protocol": "knn", "settings": {}},
            {"split": "validation"},
            {"settings": {"schedule": "paper"}},
            {"dataset": "cifar100"},
        )
    ]
    merge_rows(path, [ROW, *others])
    again = dataclasses.replace(ROW, value=76.0, seeds=5)
    merged = merge_rows(path, [again])
    assert len(merged) == 7
    assert again in merged and ROW not in merged
    assert all(other in merged for other in others)
    assert merged == read_rows(path)


def test_the_file_does_not_depend_on_the_order_of_measuring(tmp_path):
    other = dataclasses.replace(ROW, endpoint="conv")
    merge_rows(tmp_path / "a.json", [ROW, other])
    merge_rows(tmp_path / "b.json", [other])
    merge_rows(tmp_path / "b.json", [ROW])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def as_file(**changes):
    return json.dumps({"format": "mizoo-results-1", "rows": [dataclasses.asdict(ROW) | changes]})


def without(key):
    row = dataclasses.asdict(ROW)
    del row[key]
    return json.dumps({"format": "mizoo-results-1", "rows": [row]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": "mizoo-results-1", "rows": [{"entry"', "JSON"),
        ("[1, 2]", "not a results file"),
        ('{"accuracy": 0.9}', "not a results file"),
        ('{"format": "mizoo-results-1", "rows": [3]}', "int"),
        (without("spread"), "spread"),
        (as_file(colour="red"), "colour"),
        (as_file(value="75"), "value"),
        (as_file(seeds=True), "seeds"),
        (as_file(encoder="best"), "encoder"),
    ],
)
def test_a_broken_or_foreign_file_is_refused_and_left_alone(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        merge_rows(path, [ROW])
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing.json"):
        read_rows(tmp_path / "nothing.json")


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    for use in (read_rows, lambda path: merge_rows(path, [ROW])):
        with pytest.raises(UserError, match=re.escape(str(tmp_path))):
            use(tmp_path)


def test_the_hardware_is_described_without_naming_the_machine():
    import socket

    text = hardware()
    assert "core" in text
    assert socket.gethostname() not in text
