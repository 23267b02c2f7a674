"""Results of the benchmarks -> markdown tables."""

from __future__ import annotations

import json
import os
import re
import statistics
from pathlib import Path
from typing import Any

from mizoo._tools import markdown
from mizoo._tools.markdown import number
from mizoo.errors import UserError
from mizoo.finetune import MODES

# Kinds of features of benchmarks/spoken_digit.py, in the order of the table.
_FEATURES = {
    "cpc": "**`{recipe}`**, {endpoint}",
    "random": "network of `{recipe}`, random weights, {endpoint}",
    "mfcc": "13 MFCC, mean and deviation",
    "supervised": "network of `{recipe}` trained with the labels, its own output",
}
_UNSEEN = {"unseen": "cpc", "unseen_random": "random", "unseen_mfcc": "mfcc"}  # features of a voice that was left out
_RATE = re.compile(r"([a-z]+)-([\d.e-]+)")  # trials of an optimiser: "adamw-0.001"
_BUDGETS_HEAD = ("data", "labels", "draws", "frozen", "unfrozen", "from scratch", "unfrozen - from scratch")

_NO_NAMES = ("", "raw pixels", "new weights")
_OWN_HEAD = ("encoder", "begins with", "training on the photographs", "side", "`linear`", "`knn`")


def read_benchmark(path: str | os.PathLike, script: str = "") -> dict[str, Any]:
    """What a benchmark wrote: `script`, by default that of the file's name.

    Raises:
        UserError: if the file is not there or is damaged.
    """
    path = Path(path)
    script = script or path.with_suffix(".py").name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no {path}, which the table is made of. `benchmarks/{script}` writes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}). Restore it, or run `benchmarks/{script}`") from None


def schedule_table(path: str | os.PathLike) -> str:
    """How the schedules of `mlp200` agree, as a markdown table.

    Args:
        path: what `benchmarks/probe_schedule.py` wrote.
    """
    content = read_benchmark(path)
    by_key: dict[tuple[str, str], dict[str, dict]] = {}
    for row in content["rows"]:
        by_key.setdefault((row["encoder"], row["endpoint"]), {})[row["schedule"]] = row
    body = []
    for (encoder, endpoint), by_schedule in by_key.items():
        if {"paper", "fast"} <= set(by_schedule):
            paper, fast = by_schedule["paper"], by_schedule["fast"]
            body.append(
                [
                    encoder,
                    endpoint,
                    number(paper["mean"], paper["spread"]),
                    number(fast["mean"], fast["spread"]),
                    f"{fast['mean'] - paper['mean']:+.2f}",
                    f"{paper['cpu_seconds']:.0f}",
                    f"{fast['cpu_seconds']:.0f}",
                ]
            )
    head = ["encoder", "endpoint", "paper", "fast", "difference", "paper, CPU s", "fast, CPU s"]
    title = (
        "Top-1 % of `mlp200` on the last 5,000 pictures of the CIFAR-10 training split, mean ± standard deviation "
        f"over {content['seeds']} seeds of the probe. {content['hardware']}."
    )
    return title + "\n\n" + markdown.table(head, body)


def trials_table(path: str | os.PathLike, entry: str) -> str:
    """What single changes of an entry's recipe are worth in short runs, as a markdown table.

    Args:
        path: what `benchmarks/recipe_trials.py` wrote.
        entry: the entry whose recipe was changed.

    Raises:
        UserError: if no trial of the entry was run, or its own recipe was not.
    """
    content = read_benchmark(path)
    rows = [row for row in content["rows"] if row["entry"] == entry]
    by_trial: dict[str, dict[str, dict]] = {}
    for row in rows:
        by_trial.setdefault(row["trial"], {})[row["endpoint"]] = row
    if "recipe" not in by_trial:
        raise UserError(
            f"The trials of {entry} have no row of its own recipe: `benchmarks/recipe_trials.py {entry} recipe`"
        )
    base = by_trial.pop("recipe")
    endpoints = list(base)

    def line(name: str, trial: dict[str, dict]) -> list[str]:
        """A trial's line: its name and a cell for each endpoint."""
        cells = []
        for endpoint in endpoints:
            if endpoint not in trial:
                cells.append("")
                continue
            cell = number(trial[endpoint]["value"], trial[endpoint]["spread"])
            difference = trial[endpoint]["value"] - base[endpoint]["value"]
            cells.append(cell if trial is base else f"{cell} ({difference:+.1f})")
        return [name, *cells]

    shared = base[endpoints[0]].get("base_changes", {})
    epochs = shared.get("training.epochs", content["epochs"])
    base_changes = _as_keys(shared)
    body = [
        line(f"the recipe with {base_changes}" if base_changes else "the recipe", base),
        *(line(_as_keys(next(iter(trial.values()))["changes"]), trial) for trial in by_trial.values()),
    ]
    machines = "; ".join(dict.fromkeys(row["hardware"] for row in rows))
    title = (
        f"Top-1 % of `mlp200` on the last 5,000 pictures of the CIFAR-10 training split after {epochs} "
        "epochs on the others unless the change says otherwise, mean ± standard deviation over "
        f"{rows[0]['seeds']} seeds of the probe, and the difference from the recipe. {machines}."
    )
    return title + "\n\n" + markdown.table(["change", *map(markdown.plain, endpoints)], body)


def _as_keys(changes: dict) -> str:
    """Changes of a recipe as they are written in its file."""
    return ", ".join(markdown.code(f"{key}: {json.dumps(value)}") for key, value in changes.items())


def augment_table(path: str | os.PathLike) -> str:
    """What training steps and their augmentations cost, as a markdown table.

    Args:
        path: what `benchmarks/augment_cost.py` wrote.
    """
    content = read_benchmark(path)
    body = [
        [
            ", ".join([f"`{row['entry']}`", *filter(None, [_as_keys(row.get("changes", {}))])]),
            f"`{row['augment']}`, {row['views']} of {row['batch_size']} pictures",
            f"{row['keras_ms']:.0f}" if "keras_ms" in row else "",
            f"{row['step_ms']:.0f}",
            f"{row['augment_ms']:.1f}",
            f"{100 * row['share']:.1f} %",
        ]
        for row in content["rows"]
    ]
    title = f"CPU time, medians. {content['hardware']}, {content['backend']} backend."
    header = ["recipe", "augmentation", "step with Keras's kernels, ms", "step, ms", "augmentation, ms", "share"]
    return title + "\n\n" + markdown.table(header, body)


def step_table(path: str | os.PathLike) -> str:
    """How fast frameworks train the three-stage network, as a markdown table.

    Args:
        path: what `benchmarks/step.py` wrote.
    """
    content = read_benchmark(path)
    rates: dict[str, dict[int, int]] = {}
    for row in content["rows"]:
        rates.setdefault(row["case"], {})[row["side"]] = row["views_per_cpu_second"]
    sides = sorted({side for by_side in rates.values() for side in by_side})
    body = [[case, *(str(by_side.get(side, "")) for side in sides)] for case, by_side in rates.items()]
    turns = min(row["turns"] for row in content["rows"])
    title = (
        f"Views a CPU second of one core, {content['views']} views a step, bfloat16 where a row does not say float32, "
        f"medians of {turns} turns. "
        f"{content['hardware']}."
    )
    return title + "\n\n" + markdown.table(["network", *(f"{side} px" for side in sides)], body)


def label_budgets_table(path: str | os.PathLike) -> str:
    """What an encoder brings over training from scratch, by the number of labels, as a markdown table.

    A draw that an interrupted run left without one of the three trainings is left out.

    Args:
        path: what `benchmarks/label_budgets.py` wrote.

    Raises:
        UserError: if no draw is whole.
    """
    content = read_benchmark(path, "label_budgets.py")
    cases: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    for row in content["rows"]:
        by_mode = cases.setdefault((row["data"], row["labels"]), {mode: {} for mode in MODES})
        by_mode[row["mode"]][row["draw"]] = row["value"]
    body = []
    for (name, labels), by_mode in cases.items():
        draws = sorted(set.intersection(*(set(values) for values in by_mode.values())))
        if not draws:
            continue
        values = {mode: [by_mode[mode][draw] for draw in draws] for mode in MODES}
        gains = [after - new for after, new in zip(values["unfrozen"], values["scratch"])]
        cells = [_mean_and_spread(each) for each in values.values()]
        body.append([markdown.plain(name), f"{labels:,}", str(len(draws)), *cells, f"{statistics.mean(gains):+.2f}"])
    if not body:
        raise UserError(f"No draw in {path} is whole. Run `benchmarks/label_budgets.py`, which goes on where it was")
    budget = content["budget"]
    sizes = ", ".join(
        f"{row['test_size']:,} of {row['data']}" for row in {r["data"]: r for r in content["rows"]}.values()
    )
    title = (
        f"Top-1 % on the test split ({sizes}); the mean over draws of labels, each with a seed of its own, "
        "± their standard deviation where there are several; "
        f"`{content['encoder']}`, at most {budget['steps']} steps of {budget['batch_size']} pictures at a rate of "
        f"{budget['rate']:g}, `{budget['augment']}` augmentation. {content['hardware']}."
    )
    return title + "\n\n" + markdown.table(_BUDGETS_HEAD, body)


def own_pictures_table(path: str | os.PathLike) -> str:
    """What encoders are worth on a folder of photographs, as a markdown table.

    Args:
        path: what `benchmarks/own_pictures.py` wrote.
    """
    content = read_benchmark(path)
    rows = content["rows"]
    body = []
    for row in rows:
        name, begins = (
            each if each in _NO_NAMES else markdown.code(each) for each in (row["encoder"], row["begins_with"])
        )
        training = f"{row['epochs']} epochs" if "epochs" in row else "none here"
        body.append([name, begins, training, str(row["side"]), number(row["linear"]), number(row["knn"])])
    error = max(100 * (share * (1 - share) / row["test"]) ** 0.5 for row in rows for share in [row["linear"] / 100])
    title = (
        f"Top-1 % on {rows[0]['test']:,} photographs, fitted on {content['pictures']:,} with their labels; `"
        f"{content['endpoint']}` of encoders; standard error at most {error:.1f}. Trained on "
        f"{next(row['hardware'] for row in rows if 'hardware' in row)}."
    )
    return title + "\n\n" + markdown.table(_OWN_HEAD, body, text_columns=3)


def ablation_table(path: str | os.PathLike) -> str:
    """What each part of a recipe brings at equal CPU time, and optimisers at the best of their rates, as two tables.

    Args:
        path: what `benchmarks/ablation.py` wrote.
    """
    content = read_benchmark(path)
    trials: dict[tuple[float, str], list[dict]] = {}
    for row in content["rows"]:
        trials.setdefault((row["minutes"], row["trial"]), []).append(row)
    mean = {key: statistics.mean(row["linear"] for row in rows) for key, rows in trials.items()}
    parts: list[list[str]] = []
    by_optimizer: dict[tuple[float, str], list[tuple[float, str, list[str]]]] = {}
    for (minutes, trial), rows in trials.items():
        used = statistics.mean(row["cpu_minutes"] for row in rows)
        cells = [f"{minutes:g}", f"{used:.1f}", str(len(rows)), str(rows[0]["epochs"])]
        cells += [_mean_and_spread([row[name] for row in rows]) for name in ("linear", "knn")]
        of_a_rate = _RATE.fullmatch(trial)
        optimizer, rate = of_a_rate.groups() if of_a_rate else ("muon", "")
        if rate or trial == "recipe":
            by_optimizer.setdefault((minutes, optimizer), []).append((mean[minutes, trial], rate or "0.05", cells))
        if not rate:
            reference = mean.get((minutes, "recipe"))
            difference = "" if reference is None or trial == "recipe" else f"{mean[minutes, trial] - reference:+.2f}"
            parts.append([trial, *cells, difference])
    optimizers = []
    for (_, name), tried in by_optimizer.items():
        _, rate, cells = max(tried)
        optimizers.append([name, ", ".join(each for _, each, _ in tried), rate, *cells])
    precisions = " and ".join(sorted({row["precision"] for row in content["rows"]}))
    title = (
        "Top-1 % of `fc` on 5,000 validation pictures; ± is the standard deviation over several seeds. "
        f"Trained on the first {content['pictures']:,} pictures, as many epochs as the minutes of one core allow, "
        f"beside which stand the CPU minutes that they used, in {precisions}. "
        f"{content['hardware']}."
    )
    head = ("minutes", "used", "seeds", "epochs", "`linear`", "`knn`")
    first = markdown.table(("one change", *head, "difference of `linear`"), parts)
    return f"{title}\n\n{first}\n\n" + markdown.table(("optimiser", "rates tried", "best", *head), optimizers)


def _mean_and_spread(values: list[float]) -> str:
    return number(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)


def batch_and_bounds_table(path: str | os.PathLike) -> str:
    """What the size of the batch is worth by each bound, as a markdown table, and the picture of it, once it is drawn.

    Args:
        path: what `benchmarks/batch_and_bounds.py` wrote; its picture lies beside it.
    """
    content = read_benchmark(path)
    names = {"infonce": "InfoNCE", "jsd": "JSD", "dv": "Donsker-Varadhan"}
    body = [
        [
            names[row["bound"]],
            *(f"{row[key]:,}" for key in ("batch_size", "steps")),
            f"{row['cpu_minutes']:.1f}" if "cpu_minutes" in row else "",
            *(number(row[key]) for key in ("linear", "knn", "nats")),
        ]
        for row in sorted(content["rows"], key=lambda row: (list(names).index(row["bound"]), row["batch_size"]))
    ]
    about = content["about"]
    title = (
        f"Top-1 % of `{content['endpoint']}` on the last {content['scored']:,} pictures of the CIFAR-10 training "
        f"split, after {about['epochs']} epochs on the first {about['pictures']:,}, at one rate and with one seed. "
        "`nats`: the value of the bound in the last epoch, of JSD that of NWJ by the same critic. "
        f"{content['hardware']}."
    )
    head = ("bound", "batch", "steps", "CPU minutes", "`linear`", "`knn`", "nats")
    written = title + "\n\n" + markdown.table(head, body)
    picture = Path(path).with_suffix(".png")
    if picture.is_file():
        written += f"\n\n![Accuracy by the size of the batch](../benchmarks/{picture.name})"
    return written


def shared_information_table(path: str | os.PathLike) -> str:
    """What the features of one encoder say of those of another, in nats, as a markdown table: a triangle of pairs.

    Args:
        path: what `benchmarks/shared_information.py` wrote.
    """
    content = read_benchmark(path)
    rows = content["rows"]
    names = list(dict.fromkeys([row["one"] for row in rows] + [row["other"] for row in rows]))
    cells = {(row["one"], row["other"]): f"{row['nats']:.2f} ± {row['error']:.2f}" for row in rows}
    shown = {name: f"`{name}`" if "_" in name else name for name in names}
    body = [[shown[one], *(cells.get((one, other), "") for other in names[1:])] for one in names[:-1]]
    title = (
        f"Nats between the {content['components']} leading principal components of `{content['endpoint']}` of "
        f"{rows[0]['rows']:,} test pictures of CIFAR-10; a lower bound of at most {rows[0]['ceiling']:.2f}; ± is the "
        "standard error of scoring."
    )
    return title + "\n\n" + markdown.table(["", *(shown[name] for name in names[1:])], body)


def spoken_digit_table(path: str | os.PathLike) -> str:
    """How well digits and speakers are recognised, as markdown tables: of all speakers, and of each unseen one.

    Args:
        path: what `benchmarks/spoken_digit.py` wrote; its rows of the test split, but for those of a changed recipe.

    Raises:
        UserError: if there are no rows of the test split.
    """
    measured = [row for row in read_benchmark(path)["rows"] if row["split"] == "test"]
    rows = [row for row in measured if set(row["changes"]) <= {"training.epochs"}]
    if not rows:
        raise UserError("No row of the test split is in benchmarks/spoken_digit.json: run benchmarks/spoken_digit.py")
    seen: dict[tuple[str, str, str], dict[str, dict]] = {}
    unseen: dict[tuple[str, str, str], dict[str, dict]] = {}
    for row in rows:
        recipe = row.get("recipe", "cpc_spoken_digit")
        if row["features"].startswith("unseen"):
            features = _UNSEEN[row["features"]]
            unseen.setdefault((features, recipe, row["endpoint"]), {})[row["speaker"]] = row
        else:
            seen.setdefault((row["features"], recipe, row["endpoint"]), {})[row["label"]] = row
    ranked = sorted(seen, key=lambda key: (list(_FEATURES).index(key[0]), *key[1:]))
    body = []
    for features, recipe, endpoint in ranked:
        by_label = seen[features, recipe, endpoint]
        values = [number(by_label[label]["value"]) if label in by_label else "" for label in ("digit", "speaker")]
        epochs = str(next(iter(by_label.values()))["epochs"])
        body.append([_FEATURES[features].format(recipe=recipe, endpoint=f"`{endpoint}`"), epochs, *values])
    train, test = rows[0]["train_size"], rows[0]["test_size"]
    written = [
        f"Top-1 % of a linear probe on whole clips, test part (takes 0-4; {train:,} clips trained, {test} scored). "
        f"{'; '.join(dict.fromkeys(row['hardware'] for row in rows))}.",
        markdown.table(["features", "epochs", "digits", "speakers"], body),
    ]
    if unseen:
        speakers = list(next(iter(unseen.values())))
        body = []
        for features, recipe, endpoint in sorted(unseen, key=lambda key: (list(_FEATURES).index(key[0]), *key[1:])):
            values = [unseen[features, recipe, endpoint][speaker]["value"] for speaker in speakers]
            spread = f"{min(values):.2f} to {max(values):.2f}"
            body.append(
                [
                    _FEATURES[features].format(recipe=recipe, endpoint=f"`{endpoint}`"),
                    *map(number, values),
                    number(sum(values) / len(values)),
                    spread,
                ]
            )
        epochs = next(row["epochs"] for row in rows if row["features"] == "unseen")
        written += [
            f"Digits of a speaker that neither encoder nor probe was given; {epochs} epochs of pretraining each:",
            markdown.table(["features", *speakers, "mean", "range"], body),
        ]
    return "\n\n".join(written)
