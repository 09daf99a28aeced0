"""Figures of the transformer as a flow: PNG files from the numbers that the experiment has measured.

Where the sides agree, the wide pale line of the first shows behind the thin dark one of the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .experiment_figures import GREY, SLOPE_GAP
from .figures import LINES, ONLY_LINE, save, styled
from .parts import count, made_with, slug

SCHEMES = {
    "lie": ("#9cc9e8", "#08457e", "o"),
    "strang": ("#fdbb84", "#a63603", "s"),
    "strang-heun": ("#a6dba0", "#00601f", "^"),
    "unsplit": ("#cbb3dd", "#54278f", "D"),
}
"""Pale and dark shade, and marker, of each scheme."""
SUBLAYERS = {"attention": ("#08457e", "o"), "mlp": ("#a63603", "s")}
SHADES = (
    ("#9cc9e8", "#08457e"),
    ("#fdbb84", "#a63603"),
    ("#a6dba0", "#00601f"),
    ("#cbb3dd", "#54278f"),
    ("#d9d9d9", "#3d3d3d"),
)
"""Pale and dark shade of each kind of network, in their order."""

Document = Mapping[str, Any]
Line = tuple[int, float, str]


def draw_flow(measured: Document, folder: Path) -> list[Path]:
    """Draw what `experiments.flow.document` gives, or its JSON file holds, into FOLDER.

    Returns the PNG files: `stream-MODEL`, `refinement-MODEL` of each model; `splittings`, `time_steps` of trainings.
    """
    drawn = []
    with styled():
        for name, stream in measured["streams"].items():
            files = model_files(folder, name)
            drawn.append(save(stream_figure(measured, name, stream), files["stream"]))
            drawn.append(save(refinement_figure(measured, name, stream), files["refinement"]))
        if measured["trainings"]:
            files = training_files(folder)
            drawn.append(save(splittings_figure(measured), files["splittings"]))
            drawn.append(save(time_steps_figure(measured), files["time_steps"]))
    return drawn


def model_files(folder: Path, name: str) -> dict[str, Path]:
    """The figures of one model by what they show."""
    return {kind: folder / f"{kind}-{slug(name)}.png" for kind in ("stream", "refinement")}


def training_files(folder: Path) -> dict[str, Path]:
    """The figures of the trainings by what they show."""
    return {kind: folder / f"{kind}.png" for kind in ("splittings", "time_steps")}


def _lines(measured: Document) -> Iterator[Line]:
    return cycle(LINES if len(measured["sides"]) > 1 else (ONLY_LINE,))


def _headline(measured: Document, title: str) -> str:
    versions = "; ".join(made_with(one["versions"]) for one in measured["sides"].values())
    return f"{title}\n{versions}"


def _side_handles(measured: Document) -> list[Line2D]:
    return [
        Line2D([], [], color=("#bdbdbd", "#1a1a1a")[shade], lw=width, ls=dashes, label=one["title"])
        for one, (shade, width, dashes) in zip(measured["sides"].values(), _lines(measured), strict=False)
    ]


# ---- the stream of one model


def stream_figure(measured: Document, name: str, stream: Document) -> Figure:
    """Update norms, distance travelled, cosines of successive updates, and tokens' ways in the principal plane."""
    figure = Figure(figsize=(11.0, 8.4), layout="constrained")
    (norms, ways), (angles, plane) = figure.subplots(2, 2)
    first = next(iter(stream["sides"].values()))
    _draw_norms(norms, first)
    for one, line in zip(stream["sides"].values(), _lines(measured), strict=False):
        _draw_ways(ways, one, line)
        _draw_angles(angles, one, line)
    _draw_plane(plane, first)
    norms.set(title="length of each update: median and quartiles of the tokens", ylabel="‖Δx‖", xlabel="sublayer")
    ways.set(title="way of the stream: travelled (above), and as the crow flies", xlabel="sublayers", ylabel="length")
    angles.set(title="cosine of successive updates", xlabel="between sublayer and the next", ylim=(-1.05, 1.05))
    angles.legend(loc="lower right")
    angles.axhline(0.0, color=GREY, lw=0.8)
    for panel in (norms, ways, angles):
        panel.grid()
        panel.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(_headline(measured, f"The residual stream of a mini-GPT: {name}"), parse_math=False)
    figure.legend(handles=_side_handles(measured), loc="outside lower center", ncols=4)
    return figure


def _draw_norms(panel: Axes, one: Document) -> None:
    places = np.arange(1, len(one["norms"]) + 1)
    low, middle, high = np.array(one["norms"]).T
    for part, (color, marker) in SUBLAYERS.items():
        chosen = np.array([name == part for name in one["sublayers"]])
        spread = np.stack([middle - low, high - middle])[:, chosen]
        look: dict[str, Any] = {"color": color, "marker": marker, "ls": "none", "capsize": 3, "ms": 6}
        panel.errorbar(places[chosen], middle[chosen], spread, label=part, **look)
    panel.set_ylim(bottom=0)
    panel.legend()


def _draw_ways(panel: Axes, one: Document, line: Line) -> None:
    for kind, shades in zip(("travelled", "displaced"), SHADES, strict=False):
        low, middle, high = np.array(one[kind]).T
        places = np.arange(len(middle))
        panel.plot(places, middle, color=shades[line[0]], lw=line[1], ls=line[2])
        if line[0] == 1:
            panel.fill_between(places, low, high, color=shades[0], alpha=0.3, lw=0)


def _draw_angles(panel: Axes, one: Document, line: Line) -> None:
    per_block = len(one["norms"]) // len(one["time_steps"])
    block_places = per_block * (np.arange(len(one["block_cosines"])) + 1) + 0.5
    kinds = (("cosines", np.arange(len(one["cosines"])) + 1.5, "sublayers"), ("block_cosines", block_places, "blocks"))
    for (kind, places, label), shades in zip(kinds, SHADES, strict=False):
        if not len(places):
            continue
        low, middle, high = np.array(one[kind]).T
        color = shades[line[0]]
        panel.plot(places, middle, color=color, lw=line[1], ls=line[2], marker="o", ms=line[1] + 3.0)
        if line[0] == 1:
            panel.fill_between(places, low, high, color=shades[0], alpha=0.3, lw=0)
            panel.plot([], [], color=color, marker="o", label=f"of successive {label}")


def _draw_plane(panel: Axes, one: Document) -> None:
    """Tokens from the embedding, an empty ring, to the last layer, a dot, darker as they go."""
    ways = np.array(one["plane"])
    shades = np.linspace(0.25, 1.0, ways.shape[1] - 1)
    for way in ways:
        for start, end, shade in zip(way[:-1], way[1:], shades, strict=True):
            panel.plot(*np.stack([start, end]).T, color="#08457e", alpha=shade, lw=1.4)
        panel.plot(*way[0], "o", mfc="white", mec="#4d4d4d", ms=5)
        panel.plot(*way[-1], "o", color="#a63603", ms=5)
    shares = [f"{100 * share:.0f} %" for share in one["explained"]]
    panel.set(
        title=f"{count(len(ways), 'token')} from the embedding (ring) to the end (dot)",
        xlabel=f"first principal component ({shares[0]})",
        ylabel=f"second ({shares[1]})" if len(shares) > 1 else "",
    )


# ---- refinement


def refinement_figure(measured: Document, name: str, stream: Document) -> Figure:
    """Errors of the last stream, and losses, as each block is solved in more steps."""
    figure = Figure(figsize=(11.0, 5.6), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    answered = list(stream["sides"].values())
    steps = np.array(answered[0]["refinement"]["steps"], np.float64)
    for one, line in zip(answered, _lines(measured), strict=False):
        for scheme, (*shades, marker) in SCHEMES.items():
            found = one["refinement"]["schemes"][scheme]
            look: dict[str, Any] = {"color": shades[line[0]], "lw": line[1], "ls": line[2], "marker": marker}
            errors.plot(steps, found["errors"], ms=line[1] + 3.5, **look)
            losses.plot(steps, found["losses"], ms=line[1] + 3.5, **look)
    for scheme, expected in measured["orders"].items():
        found = answered[0]["refinement"]["schemes"][scheme]
        if found["fitted"] and scheme in ("strang", "strang-heun"):
            _draw_slope(errors, expected, steps[found["fitted"]], np.array(found["errors"])[found["fitted"]])
    losses.axhline(answered[0]["refinement"]["reference_loss"], color=GREY, lw=1.0, ls=":")
    errors.set(title="error of the last stream, ‖x − x(flow)‖ / ‖x(flow)‖", xscale="log", yscale="log")
    losses.set(title="loss of the refined model (dotted: of the flow)", xscale="log", ylabel="nats per token")
    for panel in (errors, losses):
        panel.set_xlabel("steps in each block, of Δt / steps")
        panel.set_xticks(steps, [f"{step:g}" for step in steps], minor=False)
        panel.set_xticks([], minor=True)
        panel.grid()
    figure.suptitle(_headline(measured, f"The flow of a mini-GPT: {name}"), parse_math=False)
    schemes = [
        Line2D([], [], color=dark, marker=marker, label=f"{scheme} (order {measured['orders'][scheme]})")
        for scheme, (_, dark, marker) in SCHEMES.items()
    ]
    figure.legend(handles=[*schemes, *_side_handles(measured)], loc="outside lower center", ncols=6)
    return figure


def _draw_slope(panel: Axes, order: int, steps: Any, errors: Any) -> None:
    """A dotted line of that slope below the errors."""
    line = SLOPE_GAP * errors[-1] * (steps / steps[-1]) ** -order
    panel.plot(steps, line, color=GREY, lw=1.2, ls=":")
    panel.annotate(f"slope −{order}", (steps[-1], line[-1]), (-46, -12), textcoords="offset points", color=GREY)


# ---- the trainings


def _runs(measured: Document, side: str) -> dict[str, list[Document]]:
    """By variant, in their order, the trainings of a side."""
    found: dict[str, list[Document]] = {}
    for one in measured["trainings"]:
        if one["side"] == side:
            found.setdefault(one["variant"], []).append(one)
    return found


def _draw_losses(panel: Axes, measured: Document, wanted: Sequence[str], unit: str | None) -> None:
    """Validation losses, mean and range of the seeds, against iterations or, with a unit, the cost in it."""
    for side, line in zip(measured["sides"], _lines(measured), strict=False):
        runs = _runs(measured, side)
        for name, shades in zip(wanted, SHADES, strict=False):
            if name not in runs:
                continue
            losses = np.array([run["loss_validation"] for run in runs[name]])
            evaluated = np.array(runs[name][0]["evaluated"], np.float64)
            places = evaluated * runs[name][0]["operations"] * 1e-6 if unit else evaluated
            panel.plot(places, losses.mean(0), color=shades[line[0]], lw=line[1], ls=line[2])
            if line[0] == 1:
                panel.fill_between(places, losses.min(0), losses.max(0), color=shades[0], alpha=0.3, lw=0)
    panel.set(ylabel="validation loss, nats per token", xlabel=unit or "iteration")
    panel.grid()


def _variant_handles(wanted: Sequence[str], labels: Mapping[str, str]) -> list[Line2D]:
    return [
        Line2D([], [], color=dark, lw=2.5, label=labels[name]) for name, (_, dark) in zip(wanted, SHADES, strict=False)
    ]


def _labels(measured: Document, wanted: Sequence[str]) -> dict[str, str]:
    """Names with the numbers of parameters."""
    sizes = {one["variant"]: one["parameters"] for one in measured["trainings"]}
    return {name: f"{name} ({sizes[name] / 1e3:,.0f} k parameters)" for name in wanted}


def splittings_figure(measured: Document) -> Figure:
    """Lie's and Strang's splitting against steps and against cost."""
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    by_steps, by_cost = figure.subplots(1, 2, sharey=True)
    fixed = dict.fromkeys(one["variant"] for one in measured["trainings"] if one["time_steps"] == "fixed")
    wanted = list(fixed)
    _draw_losses(by_steps, measured, wanted, None)
    _draw_losses(by_cost, measured, wanted, "iterations × operations of a token (10⁶)")
    _crop(by_steps, measured)
    by_cost.set_ylabel("")
    by_steps.set_title("by iterations")
    by_cost.set_title("by cost")
    title = f"Lie's and Strang's splitting on {measured['text']}, {_seeds(measured)}"
    figure.suptitle(_headline(measured, title), parse_math=False)
    handles = [*_variant_handles(wanted, _labels(measured, wanted)), *_side_handles(measured)]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def time_steps_figure(measured: Document) -> Figure:
    """Learned time steps by layer, and the validation losses beside that of fixed ones."""
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    steps, losses = figure.subplots(1, 2)
    learned = dict.fromkeys(one["variant"] for one in measured["trainings"] if one["time_steps"] != "fixed")
    layers = next(one["layers"] for one in measured["trainings"] if one["time_steps"] != "fixed")
    fixed = [
        one["variant"]
        for one in measured["trainings"]
        if (one["time_steps"], one["splitting"], one["layers"]) == ("fixed", "lie", layers)
    ][:1]
    wanted = [*fixed, *learned]
    places = np.arange(1, layers + 1)
    for side, line in zip(measured["sides"], _lines(measured), strict=False):
        runs = _runs(measured, side)
        for name, shades in zip(wanted, SHADES, strict=False):
            dt = np.array([run["dt"] for run in runs.get(name, [])])
            if dt.size:
                mark = {"marker": "o", "ms": line[1] + 3.5}
                steps.plot(places, dt.mean(0), color=shades[line[0]], lw=line[1], ls=line[2], **mark)
                if line[0] == 1:
                    steps.fill_between(places, dt.min(0), dt.max(0), color=shades[0], alpha=0.3, lw=0)
    steps.set(title="time step of each block", xlabel="block", ylabel="Δt", xticks=places)
    steps.grid()
    _draw_losses(losses, measured, wanted, None)
    _crop(losses, measured)
    losses.set_title("validation loss")
    title = f"Learned time steps on {measured['text']}, {_seeds(measured)}"
    figure.suptitle(_headline(measured, title), parse_math=False)
    labels = {name: name for name in wanted}
    figure.legend(
        handles=[*_variant_handles(wanted, labels), *_side_handles(measured)], loc="outside lower center", ncols=5
    )
    return figure


def _seeds(measured: Document) -> str:
    seeds = len({one["seed"] for one in measured["trainings"]})
    return f"{'mean and range of ' if seeds > 1 else ''}{count(seeds, 'seed')}"


def _crop(panel: Axes, measured: Document) -> None:
    """The losses after the first quarter of the training, where they differ."""
    later = [loss for one in measured["trainings"] for loss in one["loss_validation"][len(one["evaluated"]) // 4 :]]
    if later:
        room = 0.05 * (max(later) - min(later)) or 0.1
        panel.set_ylim(min(later) - room, max(later) + room)
