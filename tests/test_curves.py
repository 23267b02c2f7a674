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
    assert len(MARKER.findall(text)) == 4 and _ticks(text) == ["1"]


def test_a_folder_without_bounds_is_named(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(UserError, match="log.csv"):
        plot(tmp_path)
    (tmp_path / "log.csv").write_text(LOG)
    with pytest.raises(UserError, match="no line yet"):
        plot(tmp_path)
    (tmp_path / "log.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(UserError, match="no bound"):
        plot(tmp_path)
