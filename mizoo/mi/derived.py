"""Quantities made of several mutual informations: conditional information and total correlation."""

from __future__ import annotations

import dataclasses

import numpy as np

from mizoo.errors import UserError
from mizoo.mi.estimator import Estimate, estimate
from mizoo.mi.inputs import check_rows, number_groups, one_hot_columns

_RESERVED = ("permutations", "repeats")


def conditional(x, y, z, bound: str = "auto", **options) -> Estimate:
    """Estimate the conditional mutual information I(x; y | z) = I(x; (y, z)) - I(x; z) of paired rows (chain rule).

    Both are estimated on the same folds, so that the standard error is that of the difference row by row.

    Args:
        x, y, z: (N, d) or (N,), as `mizoo.mi.estimate` takes them.
        bound: the estimator of both.
        options: of `mizoo.mi.estimate`; not `permutations` and `repeats`.

    Returns:
        An `Estimate` of kind "neither": a difference of two bounds is no bound. It has no ceiling of its own.

    Raises:
        UserError: as `mizoo.mi.estimate`.
    """
    _check(options)
    _, y_values, z_values = _checked({"x": x, "y": y, "z": z})
    options["groups"] = number_groups(options.get("groups"), len(y_values))
    both = estimate(x, np.concatenate([y_values, z_values], axis=1), bound, **options)
    known = estimate(x, z_values, bound, **options)
    return _combined([both, known], (1.0, -1.0), bound, options["groups"])


def total_correlation(*variables, bound: str = "auto", **options) -> Estimate:
    """Estimate the total correlation of several variables: the sum of I(x_k; (x_1, ..., x_k-1)) over k (Watanabe 1960).

    Args:
        variables: two or more arrays (N, d) or (N,); one array or DataFrame of several columns stands for its columns,
            of which one of text is a single variable.
        bound: the estimator of each term.
        options: of `mizoo.mi.estimate`; not `permutations` and `repeats`.

    Returns:
        An `Estimate` of the kind of its terms: a sum of lower bounds is one.

    Raises:
        UserError: for fewer than two variables, and as `mizoo.mi.estimate`.
    """
    _check(options)
    if not variables:
        raise UserError("A total correlation is one of two variables or more. Received: none.")
    frame = variables[0] if len(variables) == 1 and hasattr(variables[0], "iloc") else None
    if frame is not None:  # here, since a column of text is several once it holds numbers
        variables = tuple(frame.iloc[:, [i]] for i in range(frame.shape[1])) if frame.ndim == 2 else (frame,)
    columns = _checked({f"variables[{i}]": each for i, each in enumerate(variables)})
    if len(columns) == 1 and frame is None:
        columns = [columns[0][:, i : i + 1] for i in range(columns[0].shape[1])]
    if len(columns) < 2:
        raise UserError(f"A total correlation is one of two variables or more. Received: {len(columns)}.")
    options["groups"] = number_groups(options.get("groups"), len(columns[0]))
    terms = [
        estimate(columns[k], np.concatenate(columns[:k], axis=1), bound, **options) for k in range(1, len(columns))
    ]
    combined = _combined(terms, (1.0,) * len(terms), bound, options["groups"])
    return dataclasses.replace(combined, kind=terms[0].kind)


def _checked(variables: dict) -> list[np.ndarray]:
    """Each of `variables`, by name, as `mizoo.mi.estimate` takes it: paired arrays (N, d)."""
    return check_rows({name: one_hot_columns(name, values)[0] for name, values in variables.items()})


def _check(options: dict) -> None:
    if given := [name for name in _RESERVED if name in options]:
        raise UserError(f"These are of a single estimate, not of a sum of several. Received: {', '.join(given)}")


def _combined(terms: list[Estimate], signs, bound: str, groups: np.ndarray | None) -> Estimate:
    shares = np.array([sign * term.shares for sign, term in zip(signs, terms)])
    nats = float(sum(sign * term.nats for sign, term in zip(signs, terms)))
    if bound == "ksg":
        shares = _over_rows_of_any(shares)
    shares = shares.sum(axis=0)
    if bound == "ksg":  # terms of neighbours depend on each other: an upper limit from both errors
        error = float(np.sqrt(sum(term.standard_error**2 for term in terms)))
    else:
        error = _error_of_cross_fit(nats, shares, terms[0].settings, groups)
    return Estimate(
        nats,
        error,
        None,
        "neither",
        bound,
        warnings=tuple(dict.fromkeys(text for term in terms for text in term.warnings)),
        rows=int(np.isfinite(shares).sum()),
        settings={"terms": tuple(term.nats for term in terms), **terms[0].settings},
        found=any(term.found for term in terms),
        shares=shares,
    )


def _over_rows_of_any(shares: np.ndarray) -> np.ndarray:
    """Shares (T, N) of terms that left different copies out, such that their sum has the sum of the terms as its mean.

    A row that only some terms left out adds nothing to these; one that all left out stays NaN.
    """
    scored = np.isfinite(shares)
    weights = scored.any(axis=0).sum() / scored.sum(axis=1, keepdims=True)
    return np.where(scored.any(axis=0), np.where(scored, shares * weights, 0.0), np.nan)


def _error_of_cross_fit(nats: float, shares: np.ndarray, settings: dict, groups: np.ndarray | None) -> float:
    """The standard error of a combination row by row, shares (N,), of terms of the same folds and groups (N,)."""
    from mizoo.mi import crossfit, scoring

    splits = crossfit.split(len(shares), settings["folds"], np.random.default_rng(settings["seed"]), groups)
    fold = crossfit.fold_of(list(splits), len(shares))
    return scoring.averaged(np.array([nats]), shares[None], fold[None], groups)[1]
