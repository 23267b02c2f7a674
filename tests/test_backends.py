"""TensorFlow and JAX, one device and several replicas, and JAX's scan make the same steps.

Importing a backend takes longer than a case, so nearly all of them run in one process of each backend.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.one_step import Case, Result, run

pytest.importorskip("tensorflow")


def case(objective: str, **arguments) -> Case:
    """A case; what is no field of it goes to the objective."""
    own = {key: arguments.pop(key) for key in Case._fields if key in arguments}
    return Case(objective, tuple(sorted(arguments.items())), **own)


BASELINES = [case("whole_paper"), case("vae"), case("aae", prior="gaussian"), case("aae"), case("supervised")]
SAME_ON_BOTH = [case("deep_infomax", bound="jsd", epochs=2)]
SAME_ON_BOTH_SLOW = [
    case("views"),
    case("simclr"),
    case("deep_infomax", bound="dv", critic="concat_conv"),
    case("deep_co_training"),
    case("deep_co_training", form="cpc"),
    case("distillation"),
    case("cpc", negatives="batch"),
    case("cpc", negatives="both"),
    *BASELINES,
]
WITH_REPLICAS = [case("views", negatives="both", last=7, replicas=2)]
WITH_REPLICAS_SLOW = [
    case("deep_infomax", replicas=2),
    case("deep_infomax", bound="dv", critic="concat_conv", replicas=2),
    case("deep_infomax", bound="dv", last=7, replicas=2),
    case("views", negatives="both", last=7, replicas=4),
    case("views", negatives="both", critic="concat_conv", replicas=2),
    case("simclr", replicas=2),
    case("simclr", last=7, replicas=2),
    case("deep_co_training", replicas=2),
    case("deep_co_training", form="cpc", replicas=2),
    case("distillation", last=7, replicas=2),
    case("cpc", negatives="batch", replicas=2),
    case("cpc", negatives="both", replicas=2),
    *(each._replace(replicas=2, last=7) for each in BASELINES),
]
IN_BLOCKS = [case("in_blocks", negatives="both", last=7)]
IN_BLOCKS_JAX = [case("in_blocks", negatives="both")]
IN_BLOCKS_SLOW = [
    *(case("in_blocks", bound=bound, last=7) for bound in ("dv", "jsd", "infonce")),
    case("in_blocks", negatives="locations"),
    case("in_blocks", negatives="both", last=7, replicas=2),
    case("in_blocks", bound="dv", replicas=2),
]
BY_SCAN = [case("deep_infomax", bound="jsd", epochs=2, scan=True)]
BY_SCAN_SLOW = [case("distillation", epochs=2, scan=True)]


def on_one_device(each: Case) -> Case:
    return each._replace(replicas=1)


def unblocked(each: Case) -> Case:
    return on_one_device(each)._replace(objective="views")


def by_fit(each: Case) -> Case:
    return each._replace(scan=False)


PROCESSES = {
    ("tensorflow", False): (
        [*SAME_ON_BOTH, *WITH_REPLICAS, *map(on_one_device, WITH_REPLICAS), *IN_BLOCKS],
        ("augmented", "refused_with_two_replicas"),
    ),
    ("jax", False): (
        [*SAME_ON_BOTH, *BY_SCAN, *map(by_fit, BY_SCAN)],
        ("augmented", "refused_by_scan", "compiled_again"),
    ),
    ("tensorflow", True): (
        [*SAME_ON_BOTH_SLOW, *map(on_one_device, WITH_REPLICAS_SLOW + IN_BLOCKS_SLOW), *map(unblocked, IN_BLOCKS_SLOW)],
        (),
    ),
    ("jax", True): (
        [*SAME_ON_BOTH_SLOW, *BY_SCAN_SLOW, *map(by_fit, BY_SCAN_SLOW), *IN_BLOCKS_JAX, *map(unblocked, IN_BLOCKS_JAX)],
        (),
    ),
}


def process(backend: str, slow: bool = False):
    """Results and facts of the process of a backend with the default cases, or with the slow ones."""
    cases, extra = PROCESSES[backend, slow]
    return run(backend, tuple(dict.fromkeys(cases)), extra)


def result(backend: str, each: Case) -> Result:
    slow = each not in PROCESSES[backend, False][0]
    if slow and each.replicas > 1:  # TensorFlow mixes up the collectives of several models in one process
        return run(backend, (each,))[0][each]
    return process(backend, slow)[0][each]


def named(cases: list[Case], marks=()) -> list:
    """Parameters of a test, under names that say what they are."""
    names = ("-".join([each.objective, *(str(value) for _, value in each.settings)]) for each in cases)
    extra = (f"-last{each.last}" * bool(each.last) + f"-x{each.replicas}" * (each.replicas > 1) for each in cases)
    return [pytest.param(each, id=name + more, marks=marks) for each, name, more in zip(cases, names, extra)]


def parameters(fast: list[Case], slow: list[Case]) -> list:
    return named(fast) + named(slow, pytest.mark.slow)


def assert_same(one: Result, other: Result, rel: float, atol: float) -> None:
    assert set(one.terms) == set(other.terms) and set(one.weights) == set(other.weights)
    for name, value in one.terms.items():
        assert other.terms[name] == pytest.approx(value, rel=rel, abs=atol), name
    for name, value in one.weights.items():
        np.testing.assert_allclose(other.weights[name], value, atol=atol, err_msg=name)


@pytest.mark.parametrize("each", parameters(SAME_ON_BOTH, SAME_ON_BOTH_SLOW))
def test_tensorflow_and_jax_make_the_same_step(each):
    pytest.importorskip("jax")
    assert_same(result("tensorflow", each), result("jax", each), rel=0.0, atol=1e-4)


def test_a_process_of_jax_imports_no_tensorflow():
    pytest.importorskip("jax")
    facts = {backend: process(backend)[1] for backend in ("tensorflow", "jax")}
    assert [fact["backend"] for fact in facts.values()] == ["tensorflow", "jax"]
    assert not facts["jax"]["tensorflow_imported"]


@pytest.mark.parametrize("each", parameters(WITH_REPLICAS, WITH_REPLICAS_SLOW))
def test_replicas_make_the_update_of_one_device(each):
    one, several = result("tensorflow", on_one_device(each)), result("tensorflow", each)
    assert one.facts["replicas"] == 1 and several.facts["replicas"] == each.replicas
    of_cpc = each.objective == "cpc"
    assert_same(one, several, rel=1e-5, atol=1e-4 if of_cpc else 2e-5)
    assert not several.facts["synchronised_in_config"]


@pytest.mark.parametrize("each", parameters(IN_BLOCKS, IN_BLOCKS_SLOW))
def test_scores_by_blocks_make_the_update_of_all_at_once(each):
    several = result("tensorflow", each)
    assert several.facts["replicas"] == each.replicas
    assert_same(result("tensorflow", unblocked(each)), several, rel=1e-5, atol=2e-5)


@pytest.mark.parametrize("each", named(IN_BLOCKS_JAX, pytest.mark.slow))
def test_scores_by_blocks_make_the_same_update_on_jax(each):
    pytest.importorskip("jax")
    assert_same(result("jax", unblocked(each)), result("jax", each), rel=1e-5, atol=2e-5)


@pytest.mark.parametrize("each", parameters(BY_SCAN, BY_SCAN_SLOW))
def test_a_compiled_scan_is_the_same_epoch_as_fit_on_jax(each):
    pytest.importorskip("jax")
    assert_same(result("jax", by_fit(each)), result("jax", each), rel=0.0, atol=1e-4)


def test_batches_that_a_scan_cannot_take_are_refused():
    pytest.importorskip("jax")
    of_one, too_large, no_number, not_compiled = process("jax")[1]["extra"]["scan"]
    assert "call `compile`" in not_compiled
    assert "a batch of one trains on nothing" in of_one and "`batch_size`" in no_number
    assert too_large == "One batch takes 5 inputs and there are 4: lower `batch_size`."


def test_a_scan_has_the_optimiser_that_was_compiled_last():
    pytest.importorskip("jax")
    first, second = process("jax")[1]["extra"]["moved"]
    assert first > 1 and second < 1e-3


def test_what_cannot_work_with_replicas_is_refused():
    said = process("tensorflow")[1]["extra"]
    assert "strategy.scope()" in said["outside"] and "steps_per_execution" in said["steps"]
    assert "gradient_accumulation_steps" in said["accumulation"] and said["good"] == ""
    assert all("multiple of 2 as `batch_size`" in each and each.endswith("a batch of 15") for each in said["batches"])
    assert "last batch of 1 leaves one of the 2 replicas without" in said["last"]
    assert said["last"].endswith("or 14 pictures.")


def test_every_replica_draws_noise_of_its_own():
    facts = process("tensorflow")[1]["extra"]
    assert facts["draws"] == facts["different_draws"] == 6


def test_both_backends_make_the_same_augmented_pictures():
    pytest.importorskip("jax")
    made = [process(backend)[1]["extra"] for backend in ("tensorflow", "jax")]
    np.testing.assert_allclose(made[0]["augmented"], made[1]["augmented"], atol=0.02)  # of 255
    np.testing.assert_allclose(made[0]["sounds"], made[1]["sounds"], atol=1e-4)
