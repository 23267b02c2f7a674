"""Probes of encoders of sounds: whole clips, digits and speakers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mizoo import encoders, evaluate
from mizoo.data import sounds
from mizoo.errors import UserError

RATE = 8000


@pytest.fixture
def tones(monkeypatch):
    """Clips whose digit is their pitch and whose speaker is their loudness, in the place of the spoken digits."""
    rng = np.random.default_rng(0)
    clips, digits, speakers, takes = [], [], [], []
    for digit in range(3):
        for speaker in range(2):
            for take in range(25):
                t = np.arange(int(rng.integers(1200, 2400))) / RATE
                wave = np.sin(2 * np.pi * (200 + 500 * digit) * t + rng.uniform(0, 6)) * (0.1, 0.8)[speaker]
                clips.append((wave + 0.01 * rng.standard_normal(len(t))).astype("float32"))
                digits.append(digit)
                speakers.append(speaker)
                takes.append(take)
    labels = {"digit": np.array(digits), "speaker": np.array(speakers), "take": np.array(takes)}
    classes = {"digit": ("0", "1", "2"), "speaker": ("a", "b"), "take": tuple(map(str, range(25)))}
    whole = sounds.Sounds("spoken_digit", tuple(clips), RATE, labels, classes)
    monkeypatch.setattr(sounds, "_spoken_digit", lambda: whole)
    return whole


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(1)
    return encoders.waveform(RATE, widths=(16, 16, 16, 16), context_size=8, norm=False)


def test_digits_and_speakers_are_two_tasks(tones, encoder):
    rows = evaluate.evaluate(encoder, protocols=("linear", "knn"), progress=False)
    found = {(row.dataset, row.protocol, row.endpoint): row for row in rows}
    assert len(rows) == len(found) == 8
    assert {key[0] for key in found} == {"spoken_digit/digit", "spoken_digit/speaker"}
    assert {(row.train_size, row.test_size) for row in rows} == {(120, 30)}  # takes 5 on, and 0 to 4
    assert found["spoken_digit/speaker", "linear", "local"].value > 95  # loudness
    assert found["spoken_digit/digit", "linear", "local"].value > 70  # pitch, by random filters; chance is 33
    assert rows[0].command.startswith("mizoo evaluate waveform --dataset spoken_digit")


def test_validation_scores_takes_that_neither_part_of_the_test_has(tones, encoder):
    rows = evaluate.evaluate(encoder, protocols=("linear",), endpoints=["global"], split="validation", progress=False)
    assert {(row.split, row.train_size, row.test_size) for row in rows} == {("validation", 90, 30)}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"dataset": "cifar10"}, "spoken_digit"),
        ({"dataset": np.zeros((4, 500))}, "Received: ndarray"),
        ({"endpoints": ["context"]}, "`local`"),
        ({"train_split": "train[:10]"}, "whole of 'train'"),
        ({"protocols": ("mine",)}, "take the protocols linear"),
        ({"protocols": ("knn", "finetune")}, "Received: finetune"),
    ],
)
def test_what_sounds_do_not_have_is_refused(tones, encoder, arguments, words):
    with pytest.raises(UserError, match=words):
        evaluate.evaluate(encoder, progress=False, **arguments)
