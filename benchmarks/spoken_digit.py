"""Digits and speakers of the spoken digits by a linear probe of an entry, and of what it has to beat.

    python benchmarks/spoken_digit.py [--recipe simclr_spoken_digit] [--split validation] [--set KEY=VALUE ...]
        [--speaker NAME ...] [NAME ...]

Takes 0-4 of every digit and speaker are the test split, takes 5-49 train encoder and probe. `--split validation` is for
choices: takes 5-9 are scored, takes 10-49 train; of a speaker that is left out all takes from 5 on are scored. Names,
all by default:

    cpc         the encoder of the recipe, cpc_spoken_digit unless `--recipe` names another, trained without labels
    random      the same network with new weights
    mfcc        mean and deviation over time of 13 MFCC (python_speech_features, its own `pip install`)
    supervised  the same network trained with the labels, one for each kind, its window, batch and epochs those of cpc
    unseen      digits of each speaker in turn (or of each `--speaker`), left out of pretraining and of the probe
    unseen_mfcc the same probe on MFCC
    unseen_random  the same probe on the network with new weights

The tables of docs/sequences.md: `mfcc random cpc supervised unseen_mfcc unseen_random`, `--set training.epochs=20
unseen`, and with `--recipe simclr_spoken_digit` `random cpc unseen_random` and `--set training.epochs=20 unseen`.
Runs are kept in runs/spoken_digit and resume where they stopped; rows go to benchmarks/spoken_digit.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import keras
import numpy as np
import yaml

import mizoo
from mizoo import recipes
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo._tools.locks import lock_file
from mizoo.data import sounds
from mizoo.data.batching import epoch_order, generator
from mizoo.evaluate.features import clip_features
from mizoo.evaluate.protocols import linear
from mizoo.evaluate.tasks import SOUND_LABELS, SOUND_SPLITS, label_tasks
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log

HERE = Path(__file__).parent
RESULT = HERE / "spoken_digit.json"
RECIPE = "cpc_spoken_digit"


_MFCC = {"library": "python_speech_features", "nfft": 256}


def _mfcc(split: sounds.Sounds) -> np.ndarray:
    """Mean and deviation over time of 13 coefficients, 25 ms every 10 ms of 26 filters: (N, 26)."""
    from python_speech_features import mfcc

    frames = [mfcc(clip, split.sampling_rate, nfft=_MFCC["nfft"]) for clip in split.clips]
    return np.stack([np.concatenate([each.mean(axis=0), each.std(axis=0)]) for each in frames])


class Trial:
    """One split and one recipe, and the rows that are made of them."""

    def __init__(self, split: str, changes: dict, speakers: list[str], name: str = RECIPE) -> None:
        self.split, self.changes, self.speakers, self.name = split, changes, speakers, name
        self.splits = tuple(sounds.load(sounds.SPOKEN_DIGIT, name) for name in SOUND_SPLITS[split])
        self.recipe = recipes.load(name, {**changes, "data.split": SOUND_SPLITS[split][0]})

    def cpc(self) -> list[dict]:
        """The encoder trained without labels."""
        encoder, seconds = self._pretrained(self.recipe, "all")
        return self._probed("cpc", self._features(encoder), {"training_seconds": seconds})

    def random(self) -> list[dict]:
        """New weights."""
        return self._probed("random", self._features(self._new()), {"encoder_seed": 0})

    def mfcc(self) -> list[dict]:
        """No encoder."""
        features = [{"mfcc": _mfcc(split)} for split in self.splits]
        return self._probed("mfcc", features, _MFCC)

    def supervised(self) -> list[dict]:
        """The same network and a linear layer on its mean context, trained with labels; scored on whole clips."""
        rows = []
        for label in SOUND_LABELS:
            began = time.perf_counter()
            encoder, head = self._trained_with(label)
            train, test = self._features(encoder)
            logits = test["global"] @ head[0] + head[1]
            value = 100 * float(np.mean(logits.argmax(axis=1) == self.splits[1].labels[label]))
            seconds = time.perf_counter() - began
            rows.append(self._row("supervised", label, "global", value, {"training_seconds": round(seconds, 1)}))
        return rows

    def unseen(self) -> list[dict]:
        """Digits of a speaker that neither the encoder nor the probe was given."""
        rows = []
        for number, speaker in self._left_out():
            recipe = recipes.load(
                self.name,
                {**self.changes, "data.split": SOUND_SPLITS[self.split][0], "data.without_speakers": [speaker]},
            )
            encoder, seconds = self._pretrained(recipe, f"without-{speaker}")
            other = self._without(number, recipe)
            probed = other._probed("unseen", other._features(encoder), {"training_seconds": seconds}, ("digit",))
            rows += [{**row, "speaker": speaker} for row in probed]
        return rows

    def unseen_mfcc(self) -> list[dict]:
        """Digits of a speaker that the probe was not given, from MFCC."""
        rows = []
        for number, speaker in self._left_out():
            other = self._without(number, self.recipe)
            probed = other._probed("unseen_mfcc", [{"mfcc": _mfcc(split)} for split in other.splits], _MFCC, ("digit",))
            rows += [{**row, "speaker": speaker} for row in probed]
        return rows

    def unseen_random(self) -> list[dict]:
        """Digits of a speaker that the probe was not given, from new weights."""
        rows = []
        for number, speaker in self._left_out():
            other = self._without(number, self.recipe)
            features = other._features(self._new())
            probed = other._probed("unseen_random", features, {"encoder_seed": 0}, ("digit",))
            rows += [{**row, "speaker": speaker} for row in probed]
        return rows

    def _new(self) -> keras.Model:
        keras.utils.set_random_seed(0)
        return self.recipe.encoder.build()

    def _left_out(self) -> list[tuple[int, str]]:
        """Number and name of each speaker that is left out in turn."""
        speakers = self.splits[0].classes["speaker"]
        return [each for each in enumerate(speakers) if each[1] in (self.speakers or speakers)]

    def _without(self, speaker: int, recipe: recipes.Recipe) -> Trial:
        """The trial whose training split is without a speaker, and whose test split is that speaker's."""
        train = self.splits[0].where(self.splits[0].labels["speaker"] != speaker)
        scored = sounds.load(sounds.SPOKEN_DIGIT, "train") if self.split == "validation" else self.splits[1]
        test = scored.where(scored.labels["speaker"] == speaker)
        other = copy.copy(self)
        other.splits, other.recipe = (train, test), recipe
        return other

    def _pretrained(self, recipe: recipes.Recipe, kind: str) -> tuple[keras.Model, float]:
        changes = "".join(f"-{key.rpartition('.')[2]}-{value}" for key, value in self.changes.items())
        folder = HERE.parent / "runs" / "spoken_digit" / f"{self.name}-{self.split}-{kind}{changes}"
        pretrain(recipe, folder)
        encoder = keras.saving.load_model(folder / "encoder.keras", compile=False)
        return encoder, read_log(folder)[-1]["seconds"]

    def _features(self, encoder: keras.Model) -> list[dict[str, np.ndarray]]:
        return [clip_features(encoder, split.clips) for split in self.splits]

    def _probed(self, kind: str, features: list, settings: dict, labels: tuple[str, ...] = SOUND_LABELS) -> list[dict]:
        rows = []
        for task in label_tasks(*self.splits, *features, split=self.split, labels=labels):
            scores, probe = linear.fit_score(task.train_x, task.train_y, task.test_x, task.test_y, task.classes)
            label = task.dataset.rpartition("/")[2]
            rows.append(self._row(kind, label, task.endpoint, float(scores[0]), {**probe, **settings}))
        return rows

    def _row(self, kind: str, label: str, endpoint: str, value: float, settings: dict) -> dict:
        return {
            "features": kind,
            "recipe": self.name,
            "label": label,
            "endpoint": endpoint,
            "protocol": "linear",
            "value": round(value, 2),
            "split": self.split,
            "changes": self.changes,
            "train_size": len(self.splits[0]),
            "test_size": len(self.splits[1]),
            "epochs": self.recipe.training.epochs if kind in ("cpc", "supervised", "unseen") else 0,
            "settings": settings,
            "version": mizoo.__version__,
            "hardware": hardware(),
        }

    def _trained_with(self, label: str) -> tuple[keras.Model, list[np.ndarray]]:
        training, window, train = self.recipe.training, self.recipe.data.window, self.splits[0]
        keras.utils.set_random_seed(training.seed)
        encoder = self.recipe.encoder.build()
        head = keras.layers.Dense(len(train.classes[label]), name="head")
        model = keras.Model(encoder.input, head(encoder.output["global"]))
        steps = len(train) // training.batch_size
        model.compile(
            self.recipe.optimizer.build(steps, training.epochs),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        for epoch in range(training.epochs):
            positions = generator(training.seed, 2, epoch).random(len(train))
            rows = epoch_order(training.seed, epoch, len(train))[: steps * training.batch_size]
            x = np.stack([sounds.cut(train.clips[row], window, positions[row]) for row in rows])
            model.fit(x, train.labels[label][rows], training.batch_size, verbose=0, shuffle=False)
        return encoder, [np.asarray(weight) for weight in head.get_weights()]


def _same(row: dict, made: list[dict]) -> bool:
    """Whether a row is of what others measured again."""
    keys = ("features", "split", "changes", "speaker")
    alike = [other for other in made if all(row.get(key) == other.get(key) for key in keys)]
    return any(row.get("recipe", RECIPE) == other["recipe"] for other in alike)


def main() -> None:
    """Run the named trials and merge their rows into the result."""
    names = ("mfcc", "random", "cpc", "supervised", "unseen", "unseen_mfcc", "unseen_random")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--split", choices=SOUND_SPLITS, default="test")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--speaker", action="append", default=[], help="left out; repeatable, each in turn by default")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(names)}")
    changes = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in options.changes)}
    trial = Trial(options.split, changes, options.speaker, options.recipe)
    if strangers := sorted(set(options.speaker) - set(trial.splits[0].classes["speaker"])):
        parser.error(f"no speaker {', '.join(strangers)}; there are {', '.join(trial.splits[0].classes['speaker'])}")
    for name in options.names or names:
        made = getattr(trial, name)()
        with lock_file(RESULT):
            rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
            others = [row for row in rows if not _same(row, made)]
            files.write_json(RESULT, {"rows": others + made})
        for row in made:
            who = f" without {row['speaker']}" if "speaker" in row else ""
            print(f"{name}{who}: {row['label']} from {row['endpoint']}: {row['value']:.2f} %", flush=True)


if __name__ == "__main__":
    main()
