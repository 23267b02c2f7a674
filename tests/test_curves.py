"""The picture of a run's log."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from mizoo.errors import UserError
from mizoo.runs.curves import plot

MARKER = re.compile(r'<g clip-path="[^"]*">\s*<use ')  # of a point, not of a tick
LOG = "epoch,loss,mi_1,mi_2,accuracy_1,accuracy_2,mi_1_ceiling,mi_2_ceiling\n"


def _ticks(svg: str) -> list[str]:
    """What stands below the first panel, left of the axis' name."""
    texts = re.findall(r"<!-- (.*?) -->", svg)
    return texts[: texts.index("epoch")]


def test_terms_and_ceilings_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "log.csv").write_text(LOG + "1,-1,0.5,0.2,0.1,0.05,4.2,4.2\n2,-2,1.5,0.9,0.3,0.2,4.2,4.2\n")
    assert plot(tmp_path) == tmp_path / "curves.png"
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] == 2 * 660 and len(picture.convert("RGB").getcolors(1 << 20)) > 50
    text = plot(tmp_path, tmp_path / "curves.svg").read_text()
    assert text.count("<!-- ceiling -->") == 1 and "<!-- mi_2 -->" in text and "<!-- accuracy_1 -->" in text
    assert not MARKER.search(text) and _ticks(text) == ["1", "2"]
    (tmp_path / "log.csv").write_text(LOG + "1,-1,0.5,0.2,0.1,0.05,4.2,4.2\n")
    text = plot(tmp_path, tmp_path / "curves.svg").read_text()
    assert len(MARKER.findall(text)) == 5 and _ticks(text) == ["1"]


def test_a_folder_without_a_log_is_named(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(UserError, match="log.csv"):
        plot(tmp_path)
    (tmp_path / "log.csv").write_text(LOG)
    with pytest.raises(UserError, match="no line yet"):
        plot(tmp_path)
    (tmp_path / "log.csv").write_text("epoch\n1\n")
    with pytest.raises(UserError, match="nothing to draw"):
        plot(tmp_path)


def test_a_picture_below_a_file_is_refused_and_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / "log.csv").write_text(LOG + "1,-1,0.5,0.2,0.1,0.05,4.2,4.2\n")
    (tmp_path / "afile").touch()
    with pytest.raises(UserError, match=r"x\.svg cannot be written: .*afile is a file, and a folder is needed"):
        plot(tmp_path, tmp_path / "afile" / "x.svg")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert plot("~", "~/curves.svg") == tmp_path / "curves.svg"


def test_every_logged_column_is_drawn_under_the_name_of_the_run(tmp_path):
    pytest.importorskip("matplotlib")
    run = tmp_path / "my_run"
    run.mkdir()
    measured = "spread,effective_rank,learning_rate,pictures_per_second,seconds"
    (run / "log.csv").write_text(
        f"epoch,loss,local_mi,prior,adversary,rate_ceiling,rate,local_mi_ceiling,{measured}\n"
        "1,1.5,0.5,0.7,1.4,9,5,4.2,0.4,3,0.001,900,12\n2,1.2,0.9,0.7,,9,6,4.2,0.5,4,0.0005,950,24\n"
    )
    text = plot(run, run / "curves.svg").read_text()
    for label in ("my_run", "nats", "local_mi", "rate", "prior", "adversary", "other terms", "loss"):
        assert f"<!-- {label} -->" in text, label
    for label in ("spread of the embedding", "effective rank", "learning rate", "pictures per second", "seconds since"):
        assert f"<!-- {label}" in text, label
    assert text.count("<!-- ceiling -->") == 2
    with Image.open(plot(run)) as picture:
        assert picture.size[0] == 2 * 660


def test_a_name_with_dollar_signs_is_no_formula(tmp_path):
    pytest.importorskip("matplotlib")
    run = tmp_path / r"costs_$5_\frac$"
    run.mkdir()
    (run / "log.csv").write_text("epoch,loss\n1,2\n2,1\n")
    assert run.name in plot(run, run / "curves.svg").read_text()
