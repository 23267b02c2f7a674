"""A plan in words: why each key has its value, what else the user should know, and the commented recipe."""

from __future__ import annotations

import textwrap
from typing import Any

from mizoo._tools import yaml_text
from mizoo._tools.hardware import gigabytes
from mizoo.data import search
from mizoo.new.choose import FEW, MOST_PASSES, MUCH_DECODING, PASSES, START, Plan, Wishes, duration
from mizoo.new.survey import FULL, Survey

_WIDTH = 110
_FEW_PASSES = 5


def found(survey: Survey) -> str:
    """What a folder holds, in a few lines."""
    size = f"{_median(survey.widths)} x {_median(survey.heights)}"
    low, high = (f"{survey.widths[i]} x {survey.heights[i]}" for i in _extremes(survey))
    modes = ", ".join(f"{count} {mode}" for mode, count in survey.modes.items())
    opened = "" if survey.checked == survey.count else f", of which {survey.checked:,} were opened"
    lines = [
        f"{survey.folder}: {survey.count:,} pictures{opened}; {size} pixels (median), from {low} to {high}; {modes}",
    ]
    if survey.classes:
        few, many = min(survey.classes.values()), max(survey.classes.values())
        lines.append(f"{len(survey.classes)} class folders of {few:,} to {many:,} pictures; training does not use them")
    if survey.passed_over:
        lines.append(f"passed over: {search.count(survey.passed_over)}")
    lines += [f"left out, as it cannot be read: {path}: {reason}" for path, reason in survey.broken]
    return "\n".join(lines)


def reasons(survey: Survey, wishes: Wishes, plan: Plan) -> dict[str, str]:
    """Dotted key -> why it has its value."""
    content, cost = plan.content, plan.cost
    encoder, training = content["encoder"], content["training"]
    passes, side, batch = training["epochs"], encoder["side"], training["batch_size"]
    speed = " and ".join(f"{1 / each:,.0f}" for each in cost.seconds_per_picture)
    why = {
        "encoder.name": _why_encoder(survey, encoder),
        "encoder.side": _why_side(survey, wishes, side),
        "objective.name": "InfoNCE between views of a picture, in nats; its ceiling is logged beside it",
        "data.augment": f"crops, flips, {'brightness (the pictures are grey)' if survey.grey else 'colours'}",
        "data.stages": "small views of small parts first: they cost little and teach much",
        "optimizer.learning_rate": "of Muon: the change of a kernel relative to its size",
        "training.epochs": _why_length(wishes, passes, speed),
        "training.batch_size": (
            "negatives are the other pictures of a batch" if batch == 256 else "so small that an epoch has four steps"
        ),
        "training.precision": "the faster one here",
    }
    if "init_from" in content:
        why["init_from"] = f"below {FEW:,} pictures a trained encoder is a better start than none; leave it out to see"
    if "depth" in content["data"]:
        why["data.depth"] = f"the values of the deep files fit into {content['data']['depth']} bits"
    if survey.broken:
        why["data.without_files"] = "they cannot be read"
    if "stream" in content["data"]:
        why["data.stream"] = (
            "all pictures at once would take more than half of the memory, so that every epoch decodes them anew: "
            f"{int(100 * plan.decoding)} % of its time"
        )
    if "watch" in content:
        why["watch.source"] = "labels that are only watched: a probe's accuracy stands in the log"
        if "depth" in content["watch"]:
            why["watch.depth"] = f"the values of its deep files fit into {content['watch']['depth']} bits"
        if "without_files" in content["watch"]:
            why["watch.without_files"] = "they cannot be read"
    return why


def notes(survey: Survey, plan: Plan) -> list[str]:
    """What the user should know besides."""
    said = []
    passes = plan.content["training"]["epochs"]
    watched = [] if plan.watched is None or plan.watched is survey else [plan.watched]
    for each in (survey, *watched):
        if rest := each.count - each.checked:
            below = f" below {each.folder}" if watched else ""
            said.append(
                f"{rest:,} files{below} were not opened; one that cannot be read stops the run before it begins."
            )
    depth = plan.content["data"].get("depth")
    if depth is not None and watched and watched[0].depth == FULL:
        said.append(
            f"The deep files below {watched[0].folder} fill 16 bits, and those below {survey.folder} {depth}, so the "
            "labelled pictures are scaled by another range than the run's."
        )
    if survey.elongation > 1.34:
        share = 100 / survey.elongation
        said.append(f"Training sees the centre square of each picture, {share:.0f} % of the median one.")
    if survey.short_side < plan.content["encoder"]["side"]:
        said.append(f"Half of the pictures are below {plan.content['encoder']['side']} pixels and are enlarged.")
    if passes < _FEW_PASSES:
        said.append(f"{passes} epochs are few; more --hours or a smaller --side give more.")
    if plan.decoding >= MUCH_DECODING:
        said.append(_how_to_pack(survey, plan))
    if set(survey.modes) & {"RGBA", "LA", "PA"}:
        said.append("Transparent pixels are laid on white.")
    return said


def write(survey: Survey, wishes: Wishes, plan: Plan, command: str) -> str:
    """The recipe as YAML, each choice under a comment that says why."""
    why = reasons(survey, wishes, plan)
    head = [
        *found(survey).splitlines()[:1],
        f"Expected here: {duration(plan.seconds)} and {gigabytes(plan.memory)} of memory.",
        *notes(survey, plan),
        f"Train it: {command}",
    ]
    lines = [f"# {part}" for text in head for part in textwrap.wrap(text, _WIDTH)]
    for key, value in plan.content.items():
        if not isinstance(value, dict):
            lines += [*_comment(why.get(key), ""), f"{key}: {_inline(value)}"]
            continue
        lines.append(f"{key}:")
        for inner, each in value.items():
            lines += [*_comment(why.get(f"{key}.{inner}"), "  "), *_entry(inner, each)]
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any) -> list[str]:
    if isinstance(value, list) and value and isinstance(value[0], (dict, str)):
        return [f"  {key}:", *(f"    - {_inline(each)}" for each in value)]
    return [f"  {key}: {_inline(value)}"]


def _comment(text: str | None, indent: str) -> list[str]:
    return [f"{indent}# {part}" for part in textwrap.wrap(text or "", _WIDTH)]


def _inline(value: Any) -> str:
    text = yaml_text.dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _median(sizes: Any) -> int:
    return int(sorted(sizes)[len(sizes) // 2])


def _extremes(survey: Survey) -> tuple[int, int]:
    """The smallest and the largest picture."""
    areas = survey.widths * survey.heights
    return int(areas.argmin()), int(areas.argmax())


def _why_encoder(survey: Survey, encoder: dict[str, Any]) -> str:
    if survey.usable < FEW:
        return f"that of {START}, whose weights fit every side"
    if encoder["name"] == "resnet18":
        return f"deep enough for {encoder['side']} pixels, and {PASSES} epochs fit into the time"
    return "what learns most in little time on a CPU"


def _why_side(survey: Survey, wishes: Wishes, side: int) -> str:
    own = f"the pictures have {survey.short_side:.0f} (median of the shorter side)"
    if wishes.side is not None:
        return f"as asked for; {own}"
    return f"the largest that the pictures fill and that leaves time for {PASSES} epochs, or the smallest; {own}"


def _how_to_pack(survey: Survey, plan: Plan) -> str:
    data, side = plan.content["data"], plan.content["encoder"]["side"]
    depth = f" --depth {data['depth']}" if "depth" in data else ""
    first = " Remove the files that cannot be read first." if survey.broken else ""
    without = " and ".join(f"`{key}`" for key in ("depth", "without_files") if key in data)
    return (
        f"{int(100 * plan.decoding)} % of the time goes into decoding the pictures anew in every epoch. Shrink them "
        f"once, `mizoo data pack {data['source']} --out packed --size {side}{depth}`, and name `packed` as "
        f"`data.source`{f', without {without}' if without else ''}: that leaves time for more epochs.{first}"
    )


def _why_length(wishes: Wishes, passes: int, speed: str) -> str:
    if passes == MOST_PASSES:
        return f"more than {passes} add little; less than the {wishes.hours:g} hours. Measured: {speed} pictures/s"
    return f"what fits into {wishes.hours:g} hours at the measured {speed} pictures/s of the stages"
