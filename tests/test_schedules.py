"""The trapezoid schedule, and runs whose end is chosen while the rate is constant."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mizoo import recipes
from mizoo.errors import UserError
from mizoo.recipes.schedules import Trapezoid


def test_the_rate_rises_stays_and_falls_to_zero():
    schedule = Trapezoid(0.2, steps=20, warmup_steps=4, decay_steps=5)
    rates = [float(schedule(step)) for step in range(21)]
    expected = [0.05 * i for i in range(4)] + [0.2] * 12 + [0.2 * i / 5 for i in range(4, -1, -1)]
    np.testing.assert_allclose(rates, expected, atol=1e-6)
    assert float(Trapezoid(0.2, steps=20)(0)) == pytest.approx(0.2)


def test_an_optimiser_with_the_schedule_survives_its_configuration():
    optimizer = keras.optimizers.AdamW(Trapezoid(0.2, 20, 4, 5))
    again = keras.optimizers.AdamW.from_config(optimizer.get_config())
    assert float(again.learning_rate) == float(optimizer.learning_rate) == 0.0
    again.iterations.assign(2)
    assert float(again.learning_rate) == pytest.approx(0.1)


def recipe(**optimizer) -> dict:
    return {"name": "toy", "data": {"source": "cifar10"}, "optimizer": optimizer}


def trapezoid(epochs: int, decay: float, **more) -> recipes.Recipe:
    content = recipe(schedule="trapezoid", decay_epochs=decay, **more)
    return recipes.validate({**content, "training": {"epochs": epochs}})


def test_the_end_can_be_chosen_until_the_rate_falls():
    long, short = trapezoid(100, 20), trapezoid(30, 5)
    assert short.can_resume(long, 25) and long.can_resume(short, 25)
    assert not short.can_resume(long, 26) and not long.can_resume(short, 26)
    assert short.can_resume(short, 29)
    assert not short.can_resume(trapezoid(100, 20, learning_rate=0.01), 5)
    content = recipe(schedule="cosine")
    ten, twenty = (recipes.validate({**content, "training": {"epochs": n}}) for n in (10, 20))
    assert not ten.can_resume(twenty, 1) and ten.can_resume(ten, 1)


@pytest.mark.parametrize(
    "optimizer, words",
    [
        ({"schedule": "trapezoid"}, "decay_epochs"),
        ({"schedule": "cosine", "decay_epochs": 3.0}, "decay_epochs"),
        ({"schedule": "trapezoid", "decay_epochs": 60.0, "warmup_epochs": 50.0}, "longer than"),
    ],
)
def test_schedules_that_cannot_be_are_refused(optimizer, words):
    with pytest.raises(UserError, match=words):
        recipes.validate(recipe(**optimizer))
