"""What overlapping crops bring: nearest neighbours on a folder of photographs, from the middle and from grids of crops.

    python benchmarks/crops.py PHOTOS [--name simclr_cifar10] [--endpoint fc] [--bank 1000] [--queries 1000]

PHOTOS has class folders in `train` and `test`; a bank is drawn from the one and queries from the other, stratified and
with a fixed seed. `mizoo.embed.embed` encodes both with every grid, and the protocol `knn` classifies the queries.
Writes benchmarks/crops.json, with the standard error of each accuracy over the queries, and that of its difference
from the middle alone, query by query. Some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

import mizoo
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo.data import pictures
from mizoo.embed import embed
from mizoo.evaluate.protocols.knn import class_votes

HERE = Path(__file__).parent
GRIDS = (None, "grid:2", "grid:3")


def drawn(folder: Path, count: int) -> tuple[list[Path], np.ndarray]:
    """Some files of class folders, each class with its share, and the names of their classes."""
    found = pictures.find(folder)
    chosen, _ = train_test_split(found, train_size=count, stratify=[path.parent.name for path in found], random_state=0)
    return chosen, np.array([path.parent.name for path in chosen])


def features(name: str, paths: list[Path], endpoint: str, crops: str | None) -> tuple[np.ndarray, float]:
    """Features (N, D) of the files, and the seconds that they took."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        embed(name, paths, Path(folder) / "features.npz", endpoint, crops=crops)
        with np.load(Path(folder) / "features.npz") as saved:
            return saved[endpoint].reshape(len(paths), -1), time.perf_counter() - began


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--name", default="simclr_cifar10")
    parser.add_argument("--endpoint", default="fc")
    parser.add_argument("--bank", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=1000)
    given = parser.parse_args()
    (bank, bank_names), (queries, query_names) = (
        drawn(given.photos / split, count) for split, count in (("train", given.bank), ("test", given.queries))
    )
    classes, labels = np.unique(np.concatenate([bank_names, query_names]), return_inverse=True)
    bank_labels, query_labels = labels[: len(bank)], labels[len(bank) :]
    rows, middle = [], None
    for crops in GRIDS:
        (bank_x, bank_seconds), (query_x, query_seconds) = (
            features(given.name, paths, given.endpoint, crops) for paths in (bank, queries)
        )
        hits = class_votes(bank_x, bank_labels, query_x, len(classes)).argmax(axis=1) == query_labels
        middle = hits if middle is None else middle
        gained = hits.astype(float) - middle
        error, gain_error = (100 * float(each.std()) / len(hits) ** 0.5 for each in (hits, gained))
        row = {"crops": crops or "middle", "accuracy": round(100 * float(hits.mean()), 1), "error": round(error, 1)}
        row |= {"gain": round(100 * float(gained.mean()), 1), "gain_error": round(gain_error, 1)}
        row |= {"seconds": round(bank_seconds + query_seconds, 1)}
        rows.append(row)
        print(row, flush=True)
    settings = {key: getattr(given, key) for key in ("name", "endpoint", "bank", "queries")}
    about = {"version": mizoo.__version__, "hardware": hardware(), **settings}
    files.write_json(HERE / "crops.json", about | {"rows": rows})


if __name__ == "__main__":
    main()
