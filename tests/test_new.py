"""`mizoo new`: what it finds in a folder, what it refuses, and which recipe it writes for which machine and time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from support.deep import png_of_16_bit_colour

from mizoo import data, recipes
from mizoo.callbacks import OnlineProbe
from mizoo.errors import UserError
from mizoo.new import Cost, Survey, Wishes, choose, new, refuse, survey, words
from mizoo.new import run as running
from mizoo.new.choose import FEW, MOST_PASSES, PASSES
from mizoo.recipes.training import Watch


def write(folder, rng, count, size=(40, 40), mode="RGB", suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    shape = size if mode != "RGB" else (*size, 3)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, shape, dtype="uint8")).save(folder / f"{i:03d}.{suffix}")


def a_survey(**changes) -> Survey:
    """10,000 photographs of 640 x 480."""
    from pathlib import Path

    usual = Survey(
        folder=Path("photos"),
        split="",
        count=10_000,
        checked=10_000,
        widths=np.full(10_000, 640),
        heights=np.full(10_000, 480),
        modes={"RGB": 10_000},
        grey=False,
        depth=None,
        broken=(),
        classes={},
        passed_over={},
        seconds_per_picture=0.0,
    )
    return dataclasses.replace(usual, **changes)


class Machine:
    """Measures `pictures_per_second` at 32 pixels, and less by area; the ResNet takes four times as long."""

    def __init__(self, pictures_per_second: float) -> None:
        self.speed = pictures_per_second
        self.measured: list[tuple[str, int]] = []

    def __call__(self, content, precision=None) -> Cost:
        recipes.validate(content)
        side, name = content["encoder"]["side"], content["encoder"]["name"]
        self.measured.append((name, side))
        seconds = (side / 32) ** 2 / self.speed * (4 if name == "resnet18" else 1)
        return Cost((0.5 * seconds, seconds), 10**9, precision or "float32")


def plan(machine, wishes=None, ram=64 << 30, **changes):
    found = a_survey(**changes)
    refuse(found)
    return choose(found, wishes or Wishes("photos", "my"), machine, ram)


def test_the_survey_tells_what_a_folder_holds(tmp_path, rng):
    write(tmp_path / "cats", rng, 6, (30, 60))
    write(tmp_path / "dogs", rng, 3, (20, 20), mode="L")
    (tmp_path / "dogs" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (tmp_path / "readme.txt").write_text("x")
    found = survey(tmp_path, progress=False)
    assert (found.count, found.checked, found.usable, found.split) == (10, 10, 9, "")
    assert found.modes == {"RGB": 6, "L": 3} and not found.grey
    assert found.short_side == 30 and found.elongation == 2
    assert found.classes == {"cats": 6, "dogs": 4} and found.passed_over == {".txt": 1}
    ((path, reason),) = found.broken
    assert path == "dogs/broken.jpg" and "picture" in reason
    assert "dogs/broken.jpg" in words.found(found) and "2 class folders of 4 to 6" in words.found(found)


def test_of_train_and_test_the_former_is_looked_at(tmp_path, rng):
    write(tmp_path / "train", rng, 4)
    write(tmp_path / "test", rng, 2)
    found = survey(tmp_path, progress=False)
    assert (found.count, found.split, found.classes) == (4, "train", {})


@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (1000, 10), (65535, 16)])
def test_deep_grey_scans_get_their_bits(tmp_path, rng, largest, bits):
    tmp_path.joinpath("scans").mkdir()
    for i in range(3):
        values = rng.integers(0, largest, (32, 32)).astype("uint16")
        values[0, 0] = largest
        Image.fromarray(values).save(tmp_path / "scans" / f"{i}.png")
    found = survey(tmp_path / "scans", progress=False)
    assert found.grey and found.depth == bits and list(found.modes) == ["I;16"]


def test_arrays_and_tiffs_that_pillow_does_not_read_are_looked_at(tmp_path, rng):
    tifffile = pytest.importorskip("tifffile")
    for i in range(3):
        values = rng.integers(0, 4096, (40, 50, 3), dtype="uint16")
        values[0, 0] = 4095
        np.save(tmp_path / f"{i}.npy", values)
        floats = rng.random((40, 50, 3), dtype="float32")
        tifffile.imwrite(tmp_path / f"{i}.tif", floats, photometric="rgb")
        Image.fromarray((values >> 4).astype("uint8")).save(tmp_path / f"{i}.png")
    np.save(tmp_path / "features.npy", rng.random((4, 5, 6)))
    found = survey(tmp_path, progress=False)
    assert found.modes == {"uint16 array": 3, "float32 tiff": 3, "RGB": 3}
    assert found.depth == 12 and not found.grey and found.short_side == 40
    ((path, reason),) = found.broken
    assert path == "features.npy" and "3 channels are wanted" in reason
    only_bands = tmp_path / "only"
    only_bands.mkdir()
    np.save(only_bands / "0.npy", np.zeros((40, 50, 13), "uint8"))
    with pytest.raises(UserError, match="0.npy: it holds an array of shape .* 3 channels are wanted"):
        survey(only_bands, progress=False)


def test_time_for_opening_files_is_kept(tmp_path, rng):
    write(tmp_path, rng, 200, (8, 8))
    assert survey(tmp_path, seconds=1e-9, progress=False).checked == 64
    assert survey(tmp_path, seconds=0, progress=False).checked == 200


def test_what_no_recipe_does_justice_to_is_refused():
    with pytest.raises(UserError, match="has 20 pictures.*mizoo finetune simclr_views_cifar10"):
        refuse(a_survey(count=20))
    with pytest.raises(UserError, match="thumbnails"):
        refuse(a_survey(widths=np.full(9, 6), heights=np.full(9, 6)))
    receipts = a_survey(widths=np.full(9, 400), heights=np.full(9, 2000))
    with pytest.raises(UserError, match="5.0 times as long.*20 % of it.*--centre"):
        refuse(receipts)
    refuse(receipts, centre=True)
    many = tuple((f"{i}.jpg", "damaged") for i in range(200))
    with pytest.raises(UserError, match="200 of the 1000 files.*\n  0.jpg: damaged"):
        refuse(a_survey(checked=1000, broken=many))


def test_a_fast_machine_takes_large_pictures_and_the_deeper_network():
    chosen = plan(Machine(10_000))
    content = chosen.content
    assert content["encoder"] == {"name": "resnet18", "width": 0.5, "side": 128}
    assert [stage["view_side"] for stage in content["data"]["stages"]] == [64, 96]
    assert content["training"]["batch_size"] == 256 and "init_from" not in content
    assert recipes.validate(content).training.epochs == content["training"]["epochs"]


def test_a_slow_machine_takes_the_fast_network_at_32_pixels():
    machine = Machine(20)
    content = plan(machine, Wishes("photos", "my", hours=1)).content
    assert content["encoder"]["name"] == "three_stage" and content["encoder"]["side"] == 32
    assert set(machine.measured) == {("three_stage", 32)}  # the slower one is not measured in vain


def test_the_length_fits_the_time():
    for hours in (1, 4):
        chosen = plan(Machine(100), Wishes("photos", "my", hours=hours, side=32))
        # 39 batches of 256: 60 % of them at 200 pictures a second, 40 % at 100; then a look at 1,000 pictures.
        epoch = 39 * 256 * (0.6 / 200 + 0.4 / 100) + 1000 * (32 / 24) ** 2 / 100 / 4 / 3
        assert chosen.content["training"]["epochs"] == int(0.9 * hours * 3600 / epoch)
        assert chosen.seconds == pytest.approx(chosen.content["training"]["epochs"] * epoch)
        assert 0.8 * hours * 3600 < chosen.seconds <= 0.9 * hours * 3600


def test_a_run_is_not_made_longer_than_it_is_worth():
    chosen = plan(Machine(1e6), Wishes("photos", "my", hours=24, side=32))
    assert chosen.content["training"]["epochs"] == MOST_PASSES
    why = words.reasons(a_survey(), Wishes("photos", "my", hours=24, side=32), chosen)
    assert "add little" in why["training.epochs"]


def test_too_little_time_for_an_epoch_is_refused_with_what_it_takes():
    with pytest.raises(UserError, match=r"about 2\.\d hours.*--hours"):
        plan(Machine(1), Wishes("photos", "my", hours=1))
    with pytest.raises(UserError, match=r"about 3 minutes.*more than 0\.01 hours \(--hours\)"):
        plan(Machine(50), Wishes("photos", "my", hours=0.01, side=32))


def test_few_pictures_start_from_trained_weights_and_have_four_steps_an_epoch():
    chosen = plan(Machine(1000), count=300, checked=300)
    assert chosen.content["init_from"] == "simclr_views_cifar10" and chosen.content["training"]["batch_size"] == 64
    assert chosen.content["encoder"]["name"] == "three_stage"
    assert "init_from" not in plan(Machine(1000), count=FEW).content


def test_pictures_that_take_more_than_half_of_the_memory_are_streamed():
    many, wishes = {"count": 200_000, "checked": 2_000}, Wishes("photos", "my", side=128)
    bytes_of_all = 2 * 200_000 * 128 * 128 * 3  # they are shuffled once

    def unchecked(content, precision=None):
        """A machine that takes any recipe, also one that streams."""
        return Cost((1e-5, 1e-5), 10**9, "float32")

    held = plan(unchecked, wishes, ram=2 * bytes_of_all, **many)
    assert "stream" not in held.content["data"] and held.memory == 10**9 + bytes_of_all
    streamed = plan(unchecked, wishes, ram=2 * bytes_of_all - 2, **many)
    assert streamed.content["data"]["stream"] is True and streamed.memory == 10**9
    assert "memory" in words.reasons(a_survey(**many), wishes, streamed)["data.stream"]


LARGE = {"count": 100_000, "checked": 1_000, "seconds_per_picture": 0.06}  # files of 4,000 pixels
HALF = 2 * 99_500 * 96 * 96 * 3  # of the memory: a little less than they take at 96 pixels


def streamed_plan(hours: float, cores: int, training: float = 1e-4, **changes):
    """A plan for large files at 96 pixels that do not fit into memory, for a machine that trains as fast as told."""
    found = a_survey(**LARGE | changes)
    wishes = Wishes("photos", "my", hours=hours, side=96)

    def measured(content, precision=None) -> Cost:
        """A machine that takes any recipe, also one that streams."""
        return Cost((training, training), 10**9, "float32")

    return found, choose(found, wishes, measured, 2 * HALF, cores)


@pytest.mark.parametrize("cores", [1, 2, 4, 16])
@pytest.mark.parametrize("training", [1e-4, 0.2])
def test_pictures_that_are_streamed_are_decoded_in_every_epoch(cores, training):
    found, chosen = streamed_plan(200, cores, training)
    assert chosen.content["data"]["stream"] is True
    usable = 390 * 256
    trained = usable * training + 1000 * training / 4 * (96 / 72) ** 2 / 3
    # Decoding shares the cores with the training, and half of them at most decode.
    epoch = max(trained + 6000 / cores, 6000 / max(1, cores // 2))
    passes = chosen.content["training"]["epochs"]
    assert passes == min(int(0.9 * 200 * 3600 / epoch), MOST_PASSES)
    assert chosen.seconds == pytest.approx(passes * epoch)
    assert chosen.decoding == pytest.approx(1 - trained / epoch)


def test_pictures_that_are_held_are_decoded_once():
    found, chosen = streamed_plan(200, 2, count=99_000)
    assert "stream" not in chosen.content["data"] and chosen.decoding == 0
    assert chosen.content["training"]["epochs"] == MOST_PASSES
    assert 99_000 * 0.06 < chosen.seconds < 99_000 * 0.06 + 400 * 99_000 * 1.1e-4
    assert not any("pack" in note for note in words.notes(found, chosen))


def test_where_decoding_takes_the_time_packing_is_suggested():
    found, chosen = streamed_plan(12, 2, depth=12, broken=(("bad.jpg", "damaged"),))
    (note,) = (note for note in words.notes(found, chosen) if "pack" in note)
    assert "mizoo data pack photos --out packed --size 96 --depth 12" in note and note.startswith("99 %")
    assert "without `depth` and `without_files`" in note and "Remove the files that cannot be read first." in note
    assert note[:40] in words.write(found, Wishes("photos", "my"), chosen, "mizoo pretrain my.yaml").split("\nname:")[0]
    assert "every epoch decodes them anew" in words.reasons(found, Wishes("photos", "my"), chosen)["data.stream"]
    found, chosen = streamed_plan(2000, 2, training=0.2)
    assert 0 < chosen.decoding < 0.5 and not any("pack" in note for note in words.notes(found, chosen))
    with pytest.raises(
        UserError, match="takes about 1.9 hours on this machine, 99 % of it to decode them: .*smaller copies"
    ):
        streamed_plan(1, 2)


def test_small_pictures_are_not_enlarged_by_much():
    chosen = plan(Machine(1e5), widths=np.full(9, 50), heights=np.full(9, 40))
    assert chosen.content["encoder"]["side"] == 48
    assert any("enlarged" in note for note in words.notes(a_survey(heights=np.full(10_000, 40)), chosen))
    assert plan(Machine(1e5), widths=np.full(9, 20), heights=np.full(9, 20)).content["encoder"]["side"] == 32


def test_wishes_are_checked():
    for wrong in ({"side": 50}, {"side": 24}, {"hours": 0}):
        with pytest.raises(UserError):
            Wishes("photos", "my", **wrong)


@pytest.fixture
def quick(monkeypatch):
    """A machine that is not measured."""
    monkeypatch.setattr(running, "measure", lambda content, precision=None, progress=None: Machine(1e5)(content))


def test_the_recipe_is_commented_and_runs_as_it_is(tmp_path, rng, quick):
    write(tmp_path / "photos", rng, 110, (30, 40))
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    for label in "ab":
        write(tmp_path / "few" / label, rng, 3)
    written = new(tmp_path / "My run.yaml", tmp_path / "photos", labelled=tmp_path / "few", progress=False)
    recipe = recipes.load(written.written)
    assert recipe.name == "my_run" and recipe.data.without_files == ("broken.png",)
    assert recipe.watch.source == str(tmp_path / "few") and recipe.watch.every == recipe.training.epochs // 20
    text = written.written.read_text()
    for value in written.plan.content["encoder"]:
        assert f"  {value}: " in text
    assert "# that of simclr_views_cifar10" in text and "# Expected here: " in text
    printed = str(written)
    assert "training.epochs: " in printed and "mizoo pretrain" in printed and "broken.png" in printed
    from mizoo.runs.checks import check_first

    check_first(recipe, tmp_path / "run")  # nothing that can be known beforehand is wrong with it


def test_an_older_recipe_and_labels_that_are_none_are_refused(tmp_path, rng, quick):
    write(tmp_path / "photos", rng, 100, (32, 32))
    (tmp_path / "my.yaml").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        new(tmp_path / "my.yaml", tmp_path / "photos", progress=False)
    assert (tmp_path / "my.yaml").read_text() == "mine"
    with pytest.raises(UserError, match="subfolder of pictures for each class"):
        new(tmp_path / "other.yaml", tmp_path / "photos", labelled=tmp_path / "photos", progress=False)
    with pytest.raises(UserError, match="yaml"):
        new(tmp_path / "my.txt", tmp_path / "photos", progress=False)
    with pytest.raises(UserError, match="is none"):
        new(tmp_path / "other.yaml", tmp_path / "nowhere", progress=False)
    assert new(tmp_path / "my.yaml", tmp_path / "photos", replace=True, progress=False).plan.content["name"] == "my"


def test_grey_scans_of_12_bits_get_their_depth(tmp_path, rng, quick):
    (tmp_path / "scans").mkdir()
    for i in range(100):
        Image.fromarray(rng.integers(0, 4096, (40, 40)).astype("uint16")).save(tmp_path / "scans" / f"{i}.png")
    written = new(tmp_path / "my.yaml", tmp_path / "scans", progress=False)
    assert recipes.load(written.written).data.depth == 12
    assert "12 bits" in written.written.read_text() and "the pictures are grey" in written.written.read_text()
    # A depth is refused for colours of 16 bits; the name of the file is one that YAML could take for a number.
    png_of_16_bit_colour(tmp_path / "scans" / "colour.png", rng.integers(0, 65536, (40, 40, 3)))
    recipe = recipes.load(new(tmp_path / "1e3.yaml", tmp_path / "scans", progress=False).written)
    assert (recipe.name, recipe.data.depth, recipe.data.without_files) == ("1e3", 12, ("colour.png",))
    loaded = data.load(tmp_path / "scans", depth=recipe.data.depth, without=recipe.data.without_files)
    assert len(loaded) == 100 and loaded.images.max() == 255


@pytest.mark.parametrize("own", [True, False])
def test_labels_are_read_like_the_pictures_without_broken_files_and_with_their_bits(own, tmp_path, rng, quick):
    scans = tmp_path / "scans"
    few = scans if own else tmp_path / "few"
    for folder, most, count in ((scans, 4096, 60), *(() if own else ((few, 1000, 4),))):
        for label in "ab":
            (folder / label).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(rng.integers(0, most, (40, 40)).astype("uint16"))
                image.save(folder / label / f"{i}.png")
    (few / "a" / "cut.png").write_bytes((few / "a" / "1.png").read_bytes()[:400])
    made = new(tmp_path / "my.yaml", scans, labelled=few, progress=False)
    recipe = recipes.load(made.written)
    assert (recipe.watch.depth, recipe.watch.without_files) == (12, ("a/cut.png",))  # the few are of the same camera
    assert "watch.depth: 12" in str(made) and "watch.without_files" in str(made)
    probe = OnlineProbe(**recipe.watch.arguments(recipe.data))
    assert (probe.depth, probe.without) == (12, ("a/cut.png",))
    probe.load((32, 32, 3))
    bare = Watch(source=str(few)).arguments(recipe.data)  # its own folder a run reads as it trains on it
    assert (bare["depth"], bare["without"]) == ((12, ("a/cut.png",)) if own else (None, ()))


@pytest.mark.parametrize(
    ("own", "labels", "data_depth", "watch_depth"),
    [
        (12, 10, 12, 12),
        (12, 14, 14, 14),  # brighter labels of the same camera
        (16, 12, None, None),
        (12, 16, 12, None),
        (12, None, 12, None),
        (None, 12, None, 12),
    ],
)
def test_labels_are_scaled_like_the_pictures_or_the_recipe_says_that_they_are_not(
    own, labels, data_depth, watch_depth, tmp_path
):
    found, few = a_survey(depth=own), a_survey(depth=labels, folder=tmp_path / "few")
    wishes = Wishes("photos", "my", labelled="few")
    chosen = choose(found, wishes, Machine(2000), 64 << 30, watched=few)
    recipe = recipes.validate(chosen.content)
    assert (recipe.data.depth, recipe.watch.depth) == (data_depth, watch_depth)
    text = words.write(found, wishes, chosen, "")
    assert f"fit into {data_depth} bits" in text or data_depth is None
    assert ("another range than" in text) == (labels == 16)


def test_a_few_steps_are_measured():
    from mizoo.new.measure import measure

    content = {
        "name": "tiny",
        "encoder": {"name": "three_stage", "widths": [4, 4, 4], "head_size": 8, "global_size": 4, "side": 32},
        "objective": {"name": "simclr", "views": 2},
        "data": {
            "source": "nowhere",
            "augment": "views",
            "stages": [{"epochs": 1, "view_side": 16, "area": [0.1, 0.5]}, {"view_side": 32, "area": [0.2, 1.0]}],
        },
        "optimizer": {"name": "muon", "learning_rate": 0.05},
        "training": {"epochs": 2, "batch_size": 4},
    }
    cost = measure(content, "float32")
    assert len(cost.seconds_per_picture) == 2 and all(0 < each < 10 for each in cost.seconds_per_picture)
    assert cost.precision == "float32" and cost.memory > 10**8
    assert PASSES == 20
