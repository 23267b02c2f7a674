"""The staircase: estimators followed while the true mutual information rises from 2 to 10 nats.

Poole et al. 2019, section 4, and Song and Ermon 2020, section 6.1: pairs of 20-dimensional Gaussian vectors of known
mutual information, as they are ("linear") or with each y cubed and divided by its standard deviation ("cubic", the
same information), fresh at every step. The papers leave the cubes as they are, at four times the scale: what differs
then is how a network starts, not the estimators.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mizoo._tools import files
from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_names, check_real, check_seed
from mizoo._tools.progress import bar
from mizoo.errors import UserError

LEVELS = (2.0, 4.0, 6.0, 8.0, 10.0)
KINDS = ("linear", "cubic")
ESTIMATORS = ("infonce", "nwj", "jsd", "dv", "mine", "smile", "club", "doe")
DIMENSIONS = 20
HIDDEN = (256, 256)
EMBEDDING = 32
LEARNING_RATE = 5e-4
CHUNK = 200  # steps in one compiled call
SUMMARISED = 1 / 8  # share of a level, its end, that is summarised: 500 of 4000 steps


def correlation(nats: float, dimensions: int = DIMENSIONS) -> float:
    """The correlation of each coordinate at which Gaussian vectors have this mutual information."""
    return math.sqrt(1.0 - math.exp(-2.0 * nats / dimensions))


def sample(rng: np.random.Generator, kind: str, nats: float, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """x and y of `shape`, the last axis the coordinates, float32."""
    rho = correlation(nats, shape[-1])
    x, noise = rng.standard_normal(shape, "float32"), rng.standard_normal(shape, "float32")
    y = np.float32(rho) * x + np.float32(math.sqrt(1.0 - rho**2)) * noise
    return x, y**3 / np.float32(math.sqrt(15.0)) if kind == "cubic" else y


def climb(
    estimator: str, kind: str, steps: int, batch_size: int, seed: int, tau: float, advance=lambda steps: None
) -> np.ndarray:
    """Train one estimator up the staircase.

    Args:
        estimator: one of `ESTIMATORS`; those with a critic get a separable one.
        kind: "linear" or "cubic".
        steps: of a level.
        batch_size: pairs in a step.
        seed: of the pairs and of the initial weights.
        advance: called with the number of steps done.

    Returns:
        The estimate of each step's fresh batch, made before the step learns from it: (levels, steps) nats.
    """
    import keras

    from mizoo.critics import vector_critic
    from mizoo.mi import fit, models

    if estimator in models.DENSITY:
        model = models.DensityPair(estimator, DIMENSIONS, DIMENSIONS, "gaussian", HIDDEN, seed)
    else:
        critic = vector_critic("separable", DIMENSIONS, DIMENSIONS, HIDDEN, EMBEDDING, seed)
        model = models.Contrast(estimator, critic, tau=tau)
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(model.trainable_variables)
    run = fit.backend.compile_steps(model, optimizer)
    chunk = math.gcd(steps, CHUNK)  # one shape, one compilation
    values = np.empty((len(LEVELS), steps), "float32")
    for level, nats in enumerate(LEVELS):
        for start in range(0, steps, chunk):
            rng = np.random.default_rng((seed, KINDS.index(kind), level, start))
            x, y = sample(rng, kind, nats, (chunk, batch_size, DIMENSIONS))
            values[level, start : start + chunk] = keras.ops.convert_to_numpy(run(x, y))
            advance(chunk)
    return values


def staircase(
    folder: str | Path,
    estimators: Sequence[str] = ESTIMATORS,
    kinds: Sequence[str] = KINDS,
    steps: int = 4000,
    batch_size: int = 64,
    seed: int = 0,
    tau: float | None = None,
    progress: bool = True,
) -> list[dict]:
    """Run the staircase for several estimators, and write its numbers, table and plot into `folder`.

    Each estimator on each kind is one file that is kept: the same call resumes an interrupted one.

    Args:
        folder: gets <kind>-<estimator>.npz, staircase.json, staircase.md and staircase.png.
        estimators: any of `ESTIMATORS`.
        kinds: "linear", "cubic".
        steps: of a level, 8 or more.
        batch_size: pairs in a step.
        seed: of pairs and weights.
        tau: clip of SMILE; `mizoo.mi.models.smile_tau(batch_size)` if None.
        progress: show progress on standard error.

    Returns:
        A row for each kind, estimator and level: bias, variance and mean squared error over the last eighth.

    Raises:
        UserError: for an unknown estimator or kind, too few steps, or a folder with another run's files.
    """
    estimators, kinds = check_names(estimators, "estimators"), check_names(kinds, "kinds")
    for name, given, known in (("estimators", estimators, ESTIMATORS), ("kinds", kinds, KINDS)):
        if unknown := [each for each in given if each not in known]:
            raise UserError(f"`{name}` are any of {', '.join(known)}. Received: {', '.join(unknown)}")
    check_whole(steps, "steps", 1)
    check_whole(batch_size, "batch_size", 1)
    check_seed(seed)
    if tau is not None:
        check_real(tau, "tau", above=0)
    if steps < 8 or batch_size < 2:
        raise UserError(f"A level has 8 steps at least, a batch 2 pairs. Received: {steps} steps, batch {batch_size}")
    folder = files.user_path(folder)
    from mizoo.mi.models import smile_tau

    tau = round(smile_tau(batch_size) if tau is None else tau, 4)
    settings = {"steps": steps, "batch_size": batch_size, "seed": seed, "tau": tau}
    rows, curves = [], {}
    with bar("staircase", len(kinds) * len(estimators) * len(LEVELS) * steps, progress) as advance:
        for kind in kinds:
            for estimator in estimators:
                path = folder / f"{kind}-{estimator}.npz"
                if path.exists():
                    advance(len(LEVELS) * steps)
                else:
                    started = time.process_time()
                    values = climb(estimator, kind, steps, batch_size, seed, tau, advance)
                    seconds = round(time.process_time() - started, 1)
                    with files.atomic(path) as temporary, open(temporary, "wb") as stream:
                        np.savez_compressed(stream, values=values, cpu_seconds=seconds, settings=json.dumps(settings))
                with np.load(path) as stored:
                    if json.loads(str(stored["settings"])) != settings:
                        raise UserError(
                            f"{path} is from a run with {stored['settings']}, not {json.dumps(settings)}: "
                            "use another folder."
                        )
                    curves[kind, estimator] = stored["values"]
                    rows += summarise(kind, estimator, stored["values"], float(stored["cpu_seconds"]))
    files.write_json(folder / "staircase.json", settings | {"ceiling_of_infonce": math.log(batch_size), "rows": rows})
    files.write_text(folder / "staircase.md", staircase_table(rows, settings))
    plot_staircase(folder / "staircase.png", curves, batch_size)
    return rows


def summarise(kind: str, estimator: str, values: np.ndarray, seconds: float) -> list[dict]:
    """Bias, variance and mean squared error of each level's end, in nats and squared nats."""
    rows = []
    for truth, level in zip(LEVELS, values.astype("float64")):
        last = level[-max(int(len(level) * SUMMARISED), 1) :]
        finite = last[np.isfinite(last)]
        row = {"kind": kind, "estimator": estimator, "truth": truth, "largest": float(level.max())}
        row |= {"bias": float(finite.mean() - truth), "variance": float(finite.var())} if len(finite) else {}
        row |= {"mse": float(((finite - truth) ** 2).mean())} if len(finite) else {}
        rows.append(row | {"steps": len(last), "not_finite": len(last) - len(finite), "cpu_seconds": seconds})
    return rows


def staircase_table(rows: list[dict], settings: dict) -> str:
    """The rows as Markdown, one table a kind: bias / variance / mean squared error at each level."""
    lines = [
        f"Staircase: d = {DIMENSIONS}, batch {settings['batch_size']}, {settings['steps']} steps a level, seed "
        f"{settings['seed']}; separable critic; clip of SMILE {settings['tau']:.1f}. "
        "Bias / variance / mean squared error over the last "
        f"{rows[0]['steps'] if rows else 0} steps of a level, in nats and squared nats. The ceiling of InfoNCE is "
        f"{math.log(settings['batch_size']):.3f}."
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        lines += ["", f"| {kind} | " + " | ".join(f"{level:g} nats" for level in LEVELS) + " |"]
        lines.append("|---|" + "--:|" * len(LEVELS))
        for estimator in dict.fromkeys(row["estimator"] for row in rows):
            of_estimator = [row for row in rows if (row["kind"], row["estimator"]) == (kind, estimator)]
            cells = [
                f"{row['bias']:+.2f} / {row['variance']:.3g} / {row['mse']:.3g}" if "bias" in row else "not finite"
                for row in of_estimator
            ]
            lines.append(f"| {estimator} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot_staircase(path: Path, curves: dict[tuple[str, str], np.ndarray], batch_size: int) -> None:
    """Each estimate, its running mean, the truth and log N, step by step.

    Raises:
        UserError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError('The plot takes matplotlib: pip install ".[demo]" in a clone.') from None
    kinds, estimators = (list(dict.fromkeys(key[i] for key in curves)) for i in (0, 1))
    figure = Figure(figsize=(2.6 * len(estimators), 2.6 * len(kinds)), layout="constrained")
    axes = figure.subplots(len(kinds), len(estimators), sharex=True, sharey=True, squeeze=False)
    for (kind, estimator), values in curves.items():
        axis = axes[kinds.index(kind), estimators.index(estimator)]
        steps, flat = values.shape[1], values.reshape(-1)
        axis.plot(flat, color="tab:blue", alpha=0.3, linewidth=0.5)
        window = max(steps // 20, 1)
        mean = np.convolve(np.nan_to_num(flat, posinf=0, neginf=0), np.ones(window) / window, "valid")
        axis.plot(np.arange(len(mean)) + window // 2, mean, color="tab:blue")
        axis.plot(np.repeat(LEVELS, steps), color="black", linewidth=1)
        axis.axhline(math.log(batch_size), color="grey", linestyle=":", linewidth=1)
        axis.set_ylim(-1, 13)
        axis.set_title(f"{estimator}, {kind}", fontsize=9)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("nats (black: truth, dotted: log N)", fontsize=9)
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=100)
