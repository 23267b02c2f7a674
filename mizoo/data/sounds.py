"""Sounds: the spoken digits of TFDS, folders and arrays of clips, and training windows of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mizoo._tools.arrays import check_whole
from mizoo._tools.files import user_path
from mizoo.data import _tfds, sound_files
from mizoo.data.dataset import parse_split
from mizoo.errors import UserError

SPOKEN_DIGIT = "spoken_digit"
TEST_TAKES = 5  # takes 0-4 of every digit and speaker are the test split, as its authors chose it
VALIDATION_TAKES = 10  # takes 5-9 are for choices


@dataclass(frozen=True)
class Sounds:
    """Clips of one sampling rate and, where they exist, their labels.

    Attributes:
        name: of the source.
        clips: float32 arrays (T,) in -1..1, of different lengths.
        sampling_rate: in Hz.
        labels: name of a label -> int64 (N,).
        classes: name of a label -> the names of its classes.
    """

    name: str
    clips: tuple[np.ndarray, ...]
    sampling_rate: int
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clips)

    def where(self, chosen: np.ndarray) -> Sounds:
        """The clips that a mask (N,) or an array of indices chooses, in order."""
        rows = np.arange(len(self))[chosen]
        labels = {key: value[rows] for key, value in self.labels.items()}
        return Sounds(self.name, tuple(self.clips[i] for i in rows), self.sampling_rate, labels, self.classes)


def load(source: str | os.PathLike | Sounds, split: str = "train", without_speakers: Sequence[str] = ()) -> Sounds:
    """Load one split of a set of sounds into memory.

    Args:
        source: "spoken_digit" (TFDS: 10 digits, 5 speakers, 50 takes, 8000 Hz; `TFDS_DATA_DIR` is honoured), a folder
            of sound files (WAV, FLAC, MP3, ...) of one sampling rate, or `Sounds`.
        split: of the spoken digits "train" (takes 5-49), "test" (takes 0-4), "fit" (takes 10-49) or "validation"
            (takes 5-9); anything else has one split, "train". With the slices of TFDS: "train[:-100]".
        without_speakers: names of speakers to leave out, of the spoken digits.

    Returns:
        The clips in a fixed order. The spoken digits have the labels `digit`, `speaker` and `take`; their clips are
        kept for the next call and cannot be written to.

    Raises:
        UserError: if the source, the split or a speaker is not there, or nothing is left; for clips of `Sounds` that
            are no floats (T,) in -1..1.
    """
    name, rows = parse_split(split)
    if not isinstance(source, (str, os.PathLike, Sounds)):
        raise UserError(
            "Sounds are a folder, a name or `mizoo.data.sounds.Sounds(name, clips, sampling_rate)`. Received: "
            f"{type(source).__name__}"
        )
    if isinstance(source, Sounds) or user_path(source).is_dir():
        whole = _checked(source) if isinstance(source, Sounds) else _folder(str(user_path(source)))
        splits = {"train": np.ones(len(whole), bool)}
    elif str(source) == SPOKEN_DIGIT:
        whole = _spoken_digit()
        take = whole.labels["take"]
        splits = {
            "train": take >= TEST_TAKES,
            "test": take < TEST_TAKES,
            "fit": take >= VALIDATION_TAKES,
            "validation": (take >= TEST_TAKES) & (take < VALIDATION_TAKES),
        }
    else:
        raise UserError(f"Sounds come from a folder or from {SPOKEN_DIGIT!r} of TFDS. Received: {str(source)!r}")
    if name not in splits:
        raise UserError(f"{whole.name!r} has the splits {', '.join(splits)}. Received: split={split!r}")
    chosen = whole.where(splits[name])
    if without_speakers:
        chosen = _without(chosen, without_speakers)
    selected = chosen.where(np.arange(len(chosen))[rows])
    if not len(selected):
        raise UserError(f"`split` selects no sound. Received: split={split!r}, where {whole.name!r} has {len(chosen)}")
    return selected


def _checked(sounds: Sounds) -> Sounds:
    """The same sounds, float32, once they are clips that an encoder takes."""
    rate = check_whole(sounds.sampling_rate, "sampling_rate", 1)
    return replace(sounds, clips=sound_files.check_clips(sounds.clips), sampling_rate=rate)


def _without(sounds: Sounds, speakers: Sequence[str]) -> Sounds:
    known = sounds.classes.get("speaker", ())
    if unknown := sorted(set(speakers) - set(known)):
        raise UserError(f"No speaker is called {', '.join(unknown)}. Speakers: {', '.join(known) or 'none named'}")
    return sounds.where(~np.isin(sounds.labels["speaker"], [known.index(speaker) for speaker in speakers]))


@functools.lru_cache(maxsize=1)
def _spoken_digit() -> Sounds:
    """All 2,500 recordings, sorted by digit, speaker and take: as the file names give them."""
    clips = {}
    for example in _tfds.examples(SPOKEN_DIGIT, "train", "audio"):
        digit, speaker, take = Path(example["audio/filename"].decode()).stem.split("_")
        clip = (example["audio"] / 32768).astype("float32")  # 16-bit samples
        clip.flags.writeable = False  # it is kept for the next call
        clips[int(digit), speaker, int(take)] = clip
    keys = sorted(clips)
    speakers = tuple(sorted({speaker for _, speaker, _ in keys}))
    labels = {
        "digit": np.array([digit for digit, _, _ in keys]),
        "speaker": np.array([speakers.index(speaker) for _, speaker, _ in keys]),
        "take": np.array([take for _, _, take in keys]),
    }
    classes = {"digit": tuple(map(str, range(10))), "speaker": speakers}
    return Sounds(SPOKEN_DIGIT, tuple(clips[key] for key in keys), 8000, labels, classes)


def _folder(folder: str) -> Sounds:
    clips: list[np.ndarray] = []
    rates: dict[int, Path] = {}
    for path in sound_files.find(folder):
        samples, rate = sound_files.read(path)
        clips.append(samples)
        rates.setdefault(rate, path)
    if len(rates) > 1:
        listed = ", ".join(f"{rate} Hz ({path.name})" for rate, path in rates.items())
        raise UserError(f"The sounds of {folder} differ in sampling rate: {listed}. Bring them to one rate.")
    return Sounds(folder, tuple(clips), next(iter(rates)))


def cut(clip: np.ndarray, window: int, position: float) -> np.ndarray:
    """A window of a clip, or a shorter clip with zeros around it.

    Args:
        clip: float32 (T,).
        window: length of the result, in samples.
        position: where it starts, from 0 (the first possible sample) to below 1 (the last).
    """
    offset = int(position * (abs(len(clip) - window) + 1))
    if len(clip) >= window:
        return clip[offset : offset + window]
    return np.pad(clip, (offset, window - len(clip) - offset))
