"""Encoders go to the Hugging Face hub with what belongs to them, and load from there: against a stand-in for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("huggingface_hub")

from support.hub import COMMIT, hub

from mizoo import push, zoo
from mizoo._tools import files
from mizoo.cli import app
from mizoo.errors import UserError
from mizoo.zoo.hub import parse

NAME = "cpc_spoken_digit"

LOAD = """
import json, sys
import numpy as np
import mizoo
answers = []
for address in sys.argv[1:]:
    try:
        encoder = mizoo.load(address, runtime="onnx")
        value = float(encoder(np.zeros((1, 4000), "float32"))["global"][0, 0])
        answers.append([encoder.name, value, mizoo.zoo.sampling_rate(address)])
    except mizoo.UserError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def load(tmp_path: Path, endpoint: str, *addresses: str, **environment: str) -> list:
    """What each address loads, or the message, in a process whose hub is at `endpoint`."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *addresses],
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A hub with one repository: the folder that `mizoo push` would upload."""
    folder = tmp_path_factory.mktemp("hub")
    push.write_folder(NAME, folder / "someone/sounds", "someone/sounds")
    shutil.copytree(folder / "someone/sounds", folder / "someone/without-onnx")
    (folder / "someone/without-onnx/encoder.onnx").unlink()
    return folder


def test_an_address_loads_names_its_sampling_rate_and_works_offline_afterwards(shelf, tmp_path):
    value = float(zoo.load(NAME, runtime="onnx")(np.zeros((1, 4000), "float32"))["global"][0, 0])
    with hub(shelf) as server:
        got = load(
            tmp_path,
            server.url,
            *("hf://someone/sounds", "hf://someone/sounds@v1", f"hf://someone/sounds@{COMMIT}"),
            *("hf://someone/nothing", "hf://someone/sounds@v9", "hf://someone/without-onnx", "hf://sounds"),
        )
        downloads = [path for path in server.requests if path.endswith("encoder.onnx")]
    assert got[0] == ["sounds", pytest.approx(value, rel=1e-6), 8000]
    assert [each[1:] for each in got[1:3]] == [got[0][1:]] * 2
    assert len(downloads) == 1
    for message, says in zip(got[3:], ("hf://someone/nothing", "v9", "holds no encoder.onnx", "hf://owner/name")):
        assert says in message
    offline = load(tmp_path, server.url, "hf://someone/sounds", HF_HUB_OFFLINE="1")
    assert offline == got[:1]
    assert load(tmp_path, server.url, "hf://someone/sounds") == got[:1]  # the server is gone
    (message,) = load(tmp_path, server.url, "hf://someone/else")
    assert "could not be downloaded" in message


def test_addresses():
    assert parse("hf://a/b") == ("a/b", None)
    assert parse("hf://a/b-c.d@refs/pr/1") == ("a/b-c.d", "refs/pr/1")
    for wrong in ("hf://a", "hf://a/b/c", "hf://a/b@", "hf:///b"):
        with pytest.raises(UserError, match="hf://owner/name"):
            parse(wrong)


class Recorder:
    """In the place of `HfApi`: what it was asked to do, with the content of the folder at that time."""

    calls: list = []

    def __init__(self, **settings) -> None:
        self.settings = settings

    def create_repo(self, repository, **settings):
        self.calls.append(("create", repository, settings))
        return f"https://example.org/{repository}"

    def upload_folder(self, *, repo_id, folder_path, commit_message, delete_patterns):
        assert set(delete_patterns) == {"encoder.onnx", "manifest.json", "results.json"}
        content = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        self.calls.append(("upload", repo_id, content))


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Recorder)
    monkeypatch.setattr(Recorder, "calls", [])
    return Recorder


def test_an_entry_goes_up_with_card_recipe_rows_and_both_forms(recorder):
    from huggingface_hub import ModelCard
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["push", NAME, "someone/sounds", "--private"])
    assert done.exit_code == 0, done.output
    assert "https://example.org/someone/sounds" in done.output
    (_, made, settings), (_, uploaded, content) = recorder.calls
    assert (made, uploaded, settings) == ("someone/sounds", "someone/sounds", {"private": True, "exist_ok": True})
    names = {"README.md", "recipe.yaml", "results.json", "manifest.json", "encoder.keras", "encoder.onnx"}
    assert set(content) == names
    for form in ("encoder.keras", "encoder.onnx"):
        assert content[form] == zoo.path(NAME, form).read_bytes()
    card = ModelCard(content["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "keras"
    assert 'mizoo.load("hf://someone/sounds")' in card.text


RECIPE = """
name: mine
summary: a small net
data:
  source: {source}
"""


@pytest.fixture
def run(tmp_path):
    """A finished run on a folder of this machine, with a row."""
    pytest.importorskip("keras")
    from support.encoders import toy_encoder

    from mizoo.evaluate.rows import Row, merge_rows

    folder = tmp_path / "runs/mine"
    folder.mkdir(parents=True)
    toy_encoder().save(folder / "encoder.keras")
    (folder / "recipe.yaml").write_text(RECIPE.format(source=tmp_path))
    command = f"mizoo evaluate {folder} --dataset {tmp_path}/pictures"
    numbers = dict(value=61.5, spread=0.0, seeds=1, train_size=80, test_size=20, seconds=1.0)
    names = dict(entry="mine", encoder="published", dataset="pictures", endpoint="fc", protocol="linear", split="test")
    row = Row(**names, **numbers, settings={}, command=command, version="1", hardware="CPU", source="sha256:0")
    merge_rows(folder / "results.json", [row])
    return folder


def test_a_run_goes_up_without_paths_of_this_machine(run, tmp_path, recorder):
    from huggingface_hub import ModelCard

    with pytest.raises(UserError, match="--licence"):
        push.push(run, "someone/mine")
    with pytest.raises(UserError, match="--dataset-name"):
        push.push(run, "someone/mine", licence="MIT")
    push.push(run, "someone/mine", licence="My-Licence-1.0", dataset="my pictures")
    content = recorder.calls[-1][2]
    assert set(content) == {"README.md", "recipe.yaml", "results.json", "encoder.keras"}
    assert content["encoder.keras"] == (run / "encoder.keras").read_bytes()
    for name, text in content.items():
        assert str(tmp_path).encode() not in text, name
    card = ModelCard(content["README.md"].decode())
    assert (card.data.license, card.data.license_name) == ("other", "My-Licence-1.0")
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("accuracy", 61.5, "pictures")
    assert "| **`mine`** | 61.50 |" in card.text
    assert zoo.load(push.write_folder(run, tmp_path / "out", "a/b", licence="MIT", dataset="x")).name == "out"


def test_no_key_of_a_recipe_leaks_a_path_into_card_or_recipe(run, tmp_path):
    (run / "recipe.yaml").write_text(
        "name: mine\nsummary: ~10 % of it\nencoder: {name: 'mymod:build', weights: /home/alice/secret.h5}\n"
        "objective: {name: distillation, teachers: [['/home/alice/secrets/teacher', fc], ['C:\\alice\\other', fc]]}\n"
        "data: {source: cifar10}\n"
    )
    out = push.write_folder(run, tmp_path / "out", "a/b", licence="MIT")
    text = (out / "recipe.yaml").read_text()
    assert "secret.h5" in text and "teacher" in text and "other" in text and "~10 % of it" in text
    for name in ("recipe.yaml", "README.md"):
        assert "alice" not in (out / name).read_text(), name


def test_a_run_is_not_pushed_over_itself_nor_with_the_onnx_form_of_older_weights(run, tmp_path):
    before = (run / "recipe.yaml").read_text()
    with pytest.raises(UserError, match="of its own"):
        push.write_folder(run, run, "a/b", licence="MIT", dataset="x")
    assert (run / "recipe.yaml").read_text() == before
    (run / "encoder.onnx").touch()
    (run / "manifest.json").write_text('{"source": {"sha256": "ab"}}')
    with pytest.raises(UserError, match="another encoder.keras.*mizoo export"):
        push.write_folder(run, tmp_path / "out", "a/b", licence="MIT", dataset="x")
    (run / "manifest.json").write_text(json.dumps({"source": {"sha256": files.sha256(run / "encoder.keras")}}))
    out = push.write_folder(run, tmp_path / "out", "a/b", licence="MIT", dataset="x")
    assert {"encoder.onnx", "manifest.json", "results.json"} < set(os.listdir(out))
    for name in ("encoder.onnx", "manifest.json", "results.json"):
        (run / name).unlink()
    push.write_folder(run, out, "a/b", licence="MIT", dataset="x")
    assert sorted(os.listdir(out)) == ["README.md", "encoder.keras", "recipe.yaml"]  # nothing of the earlier one
    assert "onnx" not in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((None, None, 3), ["pictures (of any size, decoded values 0 to 255)", "It takes pictures of any size"]),
        ((None, 3), ["series (3 values a step)", "It takes series of 3 values a step"]),
        ((None,), ["sounds (samples in -1 to 1)", "is not recorded"]),
    ],
)
def test_the_card_of_a_run_says_what_goes_in_whatever_that_is(run, tmp_path, shape, says):
    import keras

    inputs = keras.Input(shape)
    pooled = keras.layers.Reshape((-1, shape[-1] or 1))(inputs) if len(shape) < 3 else inputs
    pool = keras.layers.GlobalAveragePooling2D() if len(shape) == 3 else keras.layers.GlobalAveragePooling1D()
    keras.Model(inputs, {"fc": keras.layers.Dense(2)(pool(pooled))}).save(run / "encoder.keras")
    text = (push.write_folder(run, tmp_path / "out", "a/b", licence="MIT", dataset="x") / "README.md").read_text()
    for words in says:
        assert words in text
    assert "onnx" not in text and "None" not in text.split("## Training")[0] + text.split("## Limits")[1]


def test_a_version_of_an_entry_goes_up_as_the_entry_does(shelf, tmp_path):
    out = push.write_folder(f"{NAME}@1", tmp_path / "out", "someone/sounds")
    for path in (shelf / "someone/sounds").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_cannot_go_up_is_said_before_anything_is_sent(run, recorder, monkeypatch):
    for source, repository, says in [
        (NAME, "sounds", "owner/name"),
        ("nowhere", "a/b", "recipe.yaml|encoder.keras"),
    ]:
        with pytest.raises(UserError, match=says):
            push.push(source, repository)
    with pytest.raises(UserError, match="give neither"):
        push.push(NAME, "a/b", licence="MIT")
    assert not recorder.calls

    def refuse(*_, **__):
        raise OSError("401 Client Error")

    monkeypatch.setattr(Recorder, "create_repo", refuse)
    with pytest.raises(UserError, match=r"a/b could not be written: 401"):
        push.push(NAME, "a/b")


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_head_of_every_card_reads_as_the_hub_reads_it(name):
    """It survives the hub's own classes, and has a metric for each row of the published weights."""
    from huggingface_hub import ModelCardData
    from huggingface_hub.repocard import metadata_load
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    from mizoo.report import entry_rows
    from mizoo.report.card_metadata import REQUIRED

    block = metadata_load(zoo.locate(f"models/{name}/README.md"))
    assert set(block) == {*REQUIRED, "model-index"}
    assert ModelCardData(**block).to_dict() == block
    called, results = model_index_to_eval_results(block["model-index"])
    assert called == name
    assert eval_results_to_model_index(called, results) == block["model-index"]
    rows = [row for row in entry_rows(name) if row.encoder == "published"]
    expected = sorted((row.value, row.endpoint, row.protocol, row.dataset) for row in rows)
    found = [(r.metric_value, r.metric_args["endpoint"], r.metric_args["protocol"], r.dataset_name) for r in results]
    assert sorted(found) == expected and expected


def test_the_stand_in_validates_a_card_as_the_hub_would(monkeypatch, tmp_path):
    """`ModelCard.validate` posts the card to the hub: what it posts is the whole card of an entry."""
    from huggingface_hub import ModelCard

    posted = {}

    class Session:
        def post(self, address, json=None, headers=None, **_):
            posted.update(json, address=address)
            return type("Answer", (), {"status_code": 200, "raise_for_status": lambda self: None})()

    monkeypatch.setattr("huggingface_hub.repocard.get_session", Session)
    ModelCard.load(zoo.locate(f"models/{NAME}/README.md")).validate()
    assert posted["repoType"] == "model"
    assert "library_name: keras" in posted["content"] and f"# {NAME}" in posted["content"]
