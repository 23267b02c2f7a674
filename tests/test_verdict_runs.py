"""Ten short runs, each with one fault or none: the verdict names it."""

from __future__ import annotations

import pytest
from support import shapes

from mizoo import recipes
from mizoo._tools.progress import Progress
from mizoo.pretrain import pretrain
from mizoo.report.page.sections import evidence_of
from mizoo.report.page.study import study
from mizoo.report.page.subject import find
from mizoo.report.page.verdict import judge

SIMCLR = {"objective": {"name": "simclr", "temperature": 0.2}, "data": {"augment": "views"}}
THREE_VIEWS = {"objective": {"name": "simclr", "temperature": 0.2, "views": 3}, "data": {"augment": "views"}}
FLAT = {"objective": {"name": "simclr", "temperature": 1000.0}, "data": {"augment": "views"}}  # nothing to gain
DIM = {"objective": {"critic_width": 64, "prior_weight": 0.0}, "data": {"augment": "dim"}}

# Name -> (word, recipe, epochs, batch size, optimiser, pictures).
RUNS = {
    "healthy_views": ("healthy", SIMCLR, 12, 64, {"learning_rate": 1e-3}, "many"),
    "healthy_three_views": ("healthy", THREE_VIEWS, 12, 64, {"learning_rate": 1e-3}, "many"),
    "collapsed_views": ("collapsed", FLAT, 6, 64, {"learning_rate": 1e-2, "weight_decay": 95.0}, "many"),
    "collapsed_local": ("collapsed", DIM, 6, 64, {"learning_rate": 1e-2, "weight_decay": 95.0}, "many"),
    "stuck_views": ("stuck", SIMCLR, 5, 64, {"learning_rate": 1e-9}, "many"),
    "stuck_local": ("stuck", DIM, 5, 64, {"learning_rate": 1e-9}, "many"),
    "at_its_ceiling": ("at its ceiling", DIM, 12, 4, {"learning_rate": 1e-3}, "many"),
    "diverging": ("diverging", DIM, 6, 64, {"learning_rate": 100.0}, "many"),
    "memorising": ("memorising", SIMCLR, 600, 48, {"learning_rate": 3e-3}, "few"),
    "one_epoch": ("cannot tell", SIMCLR, 1, 64, {"learning_rate": 1e-3}, "bare"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Many pictures, few of them, and the same without class folders."""
    root = tmp_path_factory.mktemp("shapes")
    found = {}
    for name, count in (("many", 800), ("few", 48)):
        shapes.write(root / name / "train", count, 1)
        found[name] = shapes.write(root / name / "test", 400, 2).parent
    images, _ = shapes.draw(80, 3)
    found["bare"] = root / "bare"
    found["bare"].mkdir()
    for i, image in enumerate(images):
        shapes.Image.fromarray(image).save(found["bare"] / f"{i}.png")
    return found


def judged(name: str, folders, runs):
    _, parts, epochs, batch_size, optimizer, pictures = RUNS[name]
    recipe = recipes.validate(
        {
            "name": name,
            "encoder": {"widths": (16, 32, 64), "fc_size": 128, "global_size": 32},
            "objective": parts["objective"],
            "data": {"source": str(folders[pictures]), **parts["data"]},
            "optimizer": {"schedule": "constant", **optimizer},
            "training": {"epochs": epochs, "batch_size": batch_size, "precision": "float32", "checkpoint_epochs": 100},
        }
    )
    run = pretrain(recipe, runs / name, jit_compile=False)
    with Progress(False) as progress:
        subject = find(run, None, progress)
        return judge(evidence_of(subject, study(subject, "global", runs / "cache", progress)))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_verdict_names_what_is_wrong(name, folders, tmp_path):
    verdict = judged(name, folders, tmp_path)
    assert verdict.word == RUNS[name][0], [(each.question, each.word, each.why) for each in verdict.findings]
