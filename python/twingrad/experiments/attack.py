"""Adversarial examples as the sides find them: asks the sides, chooses what pictures show, compares, saves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import sides
from ..errors import SideError
from ..files import replacing
from ..format import hdf5
from ..format.result import now
from ..specs import Array

FORMAT = "twingrad-attack"


@dataclass(frozen=True)
class Answer:
    """What one side found: which side, with what, and its reply (docs/protocol.md, `attack`)."""

    side: str
    versions: Mapping[str, Any]
    reply: Mapping[str, Any]


def ask(
    names: Sequence[str],
    request: Mapping[str, Any],
    most: int,
    *,
    threads: int,
    silence_seconds: float,
    on_progress: Callable[[str, Mapping[str, Any]], None] = lambda *_: None,
) -> tuple[list[Answer], list[int], dict[str, str]]:
    """Ask the named sides, one after another.

    Args:
        names: names of the table of sides.
        request: the arguments of the verb `attack` but for `examples`; its first ε is 0.
        most: how many examples a sheet of images shows.
        threads, silence_seconds: see `Worker`.
        on_progress: told the side and how many of its samples are done.

    Returns:
        The answers, the examples, which the first answer decides, and for each side that did not run the reason. Raises
        InputError for a bad request, and SideError where no side answered.
    """
    answers: list[Answer] = []
    examples: list[int] = []
    not_run = {}
    for name in names:
        if not sides.is_available(name):
            not_run[name] = "it cannot be had on this machine; 'twingrad doctor' says why"
            continue
        show = partial(on_progress, name)
        try:
            with sides.Worker(name, threads=threads, silence_seconds=silence_seconds) as worker:
                reply = worker.request("attack", {**request, "examples": examples}, show)
                if not answers:
                    examples = choose_examples(reply, most)
                    signs_only = {"epsilons": [], "count": max(examples) + 1, "examples": examples}
                    reply["signs"] = worker.request("attack", {**request, **signs_only})["signs"]
                answers.append(Answer(name, worker.versions, reply))
        except SideError as error:
            not_run[name] = str(error)
    if not answers:
        raise SideError("; ".join(f"side {name}: {reason}" for name, reason in not_run.items()))
    return answers, examples, not_run


def choose_examples(reply: Mapping[str, Any], most: int) -> list[int]:
    """Which samples pictures show: of images the first `most`, those first that are right at ε = 0; all of a plane."""
    samples = range(len(reply["labels"]))
    if reply["kind"] == "planar":
        return list(samples)
    wrong = np.array(reply["predictions"][0]) != np.array(reply["labels"])
    return sorted(samples, key=lambda place: bool(wrong[place]))[:most]


def choose_epsilon(epsilons: Sequence[float], reply: Mapping[str, Any], examples: Sequence[int]) -> float:
    """The smallest ε > 0 at which most of the examples are misclassified; the largest of all where there is none."""
    wrong = np.array(reply["predictions"])[:, examples] != np.array(reply["labels"])[examples]
    shares = zip(epsilons, wrong.mean(1), strict=True)
    return next((epsilon for epsilon, share in shares if epsilon > 0.0 and share > 0.5), epsilons[-1])


def document(
    answers: Sequence[Answer],
    examples: Sequence[int],
    not_run: Mapping[str, str],
    about: Mapping[str, Any],
    epsilons: Sequence[float],
    shown: float | None,
) -> dict[str, Any]:
    """Everything that was found, for the JSON file, the table and the figures.

    `about` says what was attacked and how; `shown` is the ε of the pictures, chosen where it is None.
    """
    first = answers[0].reply
    return {
        "format": FORMAT,
        "format_version": hdf5.FORMAT_VERSION,
        "created": now(),
        **about,
        "kind": first["kind"],
        "epsilons": list(epsilons),
        "shown_epsilon": choose_epsilon(epsilons, first, examples) if shown is None else shown,
        "examples": list(examples),
        "labels": first["labels"],
        "sides": {answer.side: _one_side(answer) for answer in answers},
        "not_run": dict(not_run),
        "classified_differently": _different(answers, "predictions").sum(1).tolist(),
        "signs": {
            "compared": sum(len(row) for row in first["signs"]),
            "different": int(_different(answers, "signs").sum()),
        },
    }


def _one_side(answer: Answer) -> dict[str, Any]:
    names = ("correct", "accuracies", "vanished", "predictions", "confidences", "signs")
    numbers = {name: answer.reply[name] for name in names}
    return {"title": sides.side(answer.side).title, "versions": dict(answer.versions), **numbers}


def _different(answers: Sequence[Answer], name: str) -> Array:
    """Where not all sides say the same."""
    first, *others = (np.array(answer.reply[name]) for answer in answers)
    different: Array = np.zeros(first.shape, bool)
    for other in others:
        different |= other != first
    return different


def save(measured: Mapping[str, Any], file: Path) -> Path:
    """Write the document as JSON, an entry to a line, atomically."""
    entries = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in measured.items())
    with replacing(file) as temporary:
        temporary.write_text(f"{{\n{entries}\n}}\n", "utf-8")
    return file
