"""The report of a study: one HTML page that holds all its figures, and asks nothing of any network."""

import base64
import html
import io
import itertools
import math
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import xorjax as xj
from xorjax import statistics as accumulators
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import SEED, AxisIndices
from xorjax.reports import plots
from xorjax.reports.figures import surface_of
from xorjax.reports.notable import LOSS_BINS, Member, loss_histogram, slowest_and_strangest, typical
from xorjax.reports.report import a_loss
from xorjax.statistics import Shares
from xorjax.statistics.arrays import percent
from xorjax.statistics.outcomes import CLASSES
from xorjax.studies import reduce as gather
from xorjax.studies.plan import Setup
from xorjax.studies.store.seed_ranges import seeds_at
from xorjax.studies.store.shards import StudyStore
from xorjax.training.results import Result

DPI = 110
MAX_PAIRS = 6  # heat maps
MAX_VALUES = 200  # of an axis that has a figure
MAX_CURVES = 6  # of survival, in one figure

STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6875; --line: #dfe4e8; --accent: #0072b2; }
body { margin: 0; background: #f6f7f8; color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 0 0 .5rem; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 1.25rem 1.5rem;
  margin: 1.25rem 0; overflow-x: auto; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .number { font-variant-numeric: tabular-nums; }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.25rem 0; }
.tile { flex: 1 1 9rem; background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: .9rem 1.1rem; }
.tile b { display: block; font-size: 1.5rem; } .tile span { color: var(--soft); font-size: .9rem; }
img { max-width: 100%; height: auto; display: block; margin: .5rem auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, td:last-child { text-align: left; } td:last-child code { white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } th:last-child { text-align: left; }
code { font: .88rem ui-monospace, monospace; background: #f1f3f5; padding: .1rem .35rem; border-radius: 4px; }
"""


def page_of(stored: StudyStore, setup: Setup | None) -> str:
    """The report of a study, as HTML.

    Args:
      stored: the study.
      setup: what its plan describes, for the surfaces of its members; None leaves those out.

    Raises:
      StoreError: if a file is damaged.
      ValueError: if no member is committed.
    """
    kept = gather.kept_fields(stored)
    axes = [axis for axis in stored.layout.axes if axis != SEED and stored.layout.axes[axis] <= MAX_VALUES]
    found = gather.reduce_study(stored, _wanted(stored, kept, axes, setup))
    solved: Shares = found["solved"]
    if not int(solved.total):
        raise ValueError(f"{stored.name} has no member yet that a report could be of.")
    sections = [_tiles(stored, found), _described(stored)]
    sections += [_along(stored, axis, found[f"solved by {axis}"]) for axis in axes]
    pairs = list(itertools.combinations(axes, 2))[:MAX_PAIRS]
    sections += [_map(stored, pair, found[f"solved by {' and '.join(pair)}"]) for pair in pairs]
    if "losses" in found:
        sections.append(_losses(found["losses"]))
    if "times" in found:
        sections.append(_survival(stored, found["times"], axes))
    if "classes" in found:
        sections.append(_classes(stored, found["classes"], setup))
    if "extremes" in found:
        sections.append(_extremes(stored, found["extremes"]))
    title = _counted(int(solved.total), "network")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title} · xorjax</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n'
        f'<p class="soft">{html.escape(stored.name)}</p>\n' + "\n".join(sections) + "\n</main>\n</body>\n</html>\n"
    )


def _wanted(
    stored: StudyStore, kept: set[str], axes: Sequence[str], setup: Setup | None
) -> dict[str, Accumulator]:
    wanted = {"solved": _share(), "diverged": _share("diverged")}
    for axis in axes:
        wanted[f"solved by {axis}"] = _share(by=[axis])
    for pair in list(itertools.combinations(axes, 2))[:MAX_PAIRS]:
        wanted[f"solved by {' and '.join(pair)}"] = _share(by=list(pair))
    if "accuracy" in kept:
        wanted["all right"] = _share("all_right")
    if "loss" in kept:
        wanted["losses"] = loss_histogram()
        wanted["quantiles"] = accumulators.quantiles([0.05, 0.5, 0.95])
    if {"solved_epoch", "epochs"} <= kept:
        wanted["times"] = accumulators.times(by=_curves_by(stored, axes))
    if setup is not None and {"predictions", "loss"} <= kept and setup.batch.y.shape[1] == 1:
        wanted["classes"] = typical(setup.batch.y)
    if {"solved_epoch", "loss"} <= kept:
        wanted["extremes"] = slowest_and_strangest()
    return wanted


def _share(of: str = "solved", by: Sequence[str] = ()) -> Accumulator:
    """Of members whatever is kept of them: the outcome stands for the loss where shapes are asked for."""
    share = accumulators.share(of, by=by)

    def update(gathered: Any, results: Result, indices: AxisIndices) -> Any:
        return share.update(gathered, results._replace(loss=results.outcome), indices)

    return share._replace(update=update)


def _curves_by(stored: StudyStore, axes: Sequence[str]) -> list[str]:
    """The axis whose values have a survival curve each, if they are few."""
    return [axis for axis in axes if 1 < stored.layout.axes[axis] <= MAX_CURVES][:1]


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _figure(draw: Callable[[Figure], None], words: str, width: float = 8.0, height: float = 4.2) -> str:
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    content = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{content}">'


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _about(loss: float) -> str:
    """A quantile of losses: what an accumulator gives is within `accumulators.QUANTILE_ERROR`, infinity exact."""
    return a_loss(None) if math.isinf(loss) else f"≈ {a_loss(loss)}"


def _with_interval(shares: Shares) -> str:
    return f"{percent(float(shares.share))} ({100 * float(shares.low):.2f} to {100 * float(shares.high):.2f} %)"


def _tiles(stored: StudyStore, found: Mapping[str, Any]) -> str:
    total, whole = int(found["solved"].total), stored.layout.members
    members = "member" if whole == 1 else "members"
    tiles = [
        (f"{total:,}", members if total == whole else f"of {whole:,} {members}"),
        (percent(float(found["solved"].share)), f"solved ({_with_interval(found['solved']).partition('(')[2]}"),
    ]
    if "all right" in found:
        tiles.append((percent(float(found["all right"].share)), "with all rows right"))
    if "quantiles" in found:
        low, median, high = map(_about, found["quantiles"].tolist())
        tiles.append((median, f"median loss (5 % to 95 %: {low} to {high})"))
    if int(found["diverged"].number):
        tiles.append((f"{int(found['diverged'].number):,}", "diverged"))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>'
            for big, small in tiles
        )
        + "</div>"
    )


def _described(stored: StudyStore) -> str:
    header, plan = stored.metadata, stored.metadata.get("plan") or {}
    rows = [
        (name.replace("_", " "), value) for name, value in plan.items() if value is not None and name != "data"
    ]
    if not plan:
        rows.append(("epochs", header.get("epochs")))
    for axis, values in stored.values.items():
        shown = ", ".join(f"{value:g}" for value in values[:8]) + (
            f", … {values[-1]:g}" if len(values) > 8 else ""
        )
        rows.append((axis.replace("_", " "), f"{_counted(len(values), 'value')}: {shown}"))
    rows += [(name.replace("_", " "), f"{value:g}") for name, value in header.get("shared", {}).items()]
    runs = [f"{first:,} to {last - 1:,}" if last - first > 1 else f"{first:,}" for first, last in stored.seeds[:4]]
    rows.append(
        ("seeds", f"{stored.layout.axes[SEED]:,}: {', '.join(runs)}{', …' if len(stored.seeds) > 4 else ''}")
    )
    versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
    rows.append(("trained by", f"{versions}; {header.get('platform')}, engine {header.get('engine')}"))
    cells = [[html.escape(name), html.escape(str(value))] for name, value in rows]
    return _section("What was run", _table(["", ""], cells))


def _in_words(axis: str) -> str:
    return axis.replace("_", " ")


def _along(stored: StudyStore, axis: str, shares: Shares) -> str:
    order = np.argsort(stored.values[axis])
    values = [stored.values[axis][i] for i in order]
    shares = Shares(*(np.asarray(each)[order] for each in shares))

    def draw(figure: Figure) -> None:
        plots.shares_along(figure.subplots(), (_in_words(axis), values), shares, "share solved")

    return _section(
        f"Solved, by {_in_words(axis)}",
        _figure(draw, f"share of members solved at each {_in_words(axis)}, with intervals of 95 %"),
        '<p class="soft">Over all values of the other axes, with Wilson\'s intervals of 95 %.</p>',
    )


def _map(stored: StudyStore, pair: tuple[str, str], shares: Shares) -> str:
    rows, columns = pair
    orders = [np.argsort(stored.values[axis]) for axis in pair]
    values = {axis: [stored.values[axis][i] for i in order] for axis, order in zip(pair, orders, strict=True)}
    solved = np.asarray(shares.share)[np.ix_(*orders)]
    small = max(solved.shape) <= 16

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        image = plots.heat_map(
            ax, solved, (_in_words(rows), values[rows]), (_in_words(columns), values[columns]), numbers=small
        )
        plots.share_bar(ax, image, "share solved")

    return _section(
        f"Solved, by {_in_words(rows)} and {_in_words(columns)}",
        _figure(draw, f"share solved over {_in_words(rows)} and {_in_words(columns)}", 8.0, 5.2),
    )


def _losses(found: tuple[np.ndarray, int]) -> str:
    counts, rest = found

    def draw(figure: Figure) -> None:
        plots.binned_losses(figure.subplots(), 10.0**LOSS_BINS, counts)

    losses_are = "loss is" if rest == 1 else "losses are"
    of_others = f'<p class="soft">{rest:,} {losses_are} 0, infinite or not a number.</p>' if rest else ""
    return _section("Final losses", _figure(draw, "how many members ended with which loss"), of_others)


def _survival(stored: StudyStore, times: Any, axes: Sequence[str]) -> str:
    by = _curves_by(stored, axes)
    curves = (
        {f"{_in_words(by[0])} {v:g}": t for v, t in zip(stored.values[by[0]], times, strict=True)}
        if by
        else {"": times}
    )

    def draw(figure: Figure) -> None:
        plots.survival_curves(
            figure.subplots(), {name: each.survival() for name, each in curves.items() if each.number}
        )

    return _section(
        "How long it takes",
        _figure(draw, "share of members not yet solved, by epoch"),
        '<p class="soft">Kaplan and Meier\'s estimate with its interval of 95 %; members that were never solved '
        "are watched until their training ended.</p>",
    )


def _classes(stored: StudyStore, found: Sequence[tuple[int, Member]], setup: Setup | None) -> str:
    total = sum(number for number, _ in found)
    rows = [
        [
            html.escape(member.what),
            f"{number:,}",
            percent(number / total),
            a_loss(_finite(member.loss)),
            _command(stored, member),
        ]
        for number, member in found
    ]
    parts = [_table(["ended as", "members", "share", "loss of a typical one", "which is"], rows)]
    if setup is not None and setup.batch.x.shape[1] == 2:
        shown = [member for _, member in found if member.what != CLASSES[0]][:6]
        if shown:
            parts.insert(0, _surfaces(stored, shown, setup))
    return _section("What networks end as", *parts)


def _surfaces(stored: StudyStore, members: Sequence[Member], setup: Setup) -> str:
    axis = np.linspace(-0.25, 1.25, 101)
    across = min(3, len(members))
    down = -(-len(members) // across)

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("compressed")  # whose panels all have one aspect
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        for panel in panels[len(members) :]:
            panel.remove()
        image: Any = None
        for panel, member in zip(panels, members, strict=False):
            seed, hparams = named(stored, member.indices)
            final = xj.replay(
                setup.trainer, seed, hparams, epochs=[setup.trainer.epochs], engine=stored.metadata["engine"]
            )
            params = jax.tree.map(lambda leaf: leaf[0], final.params)
            outputs = surface_of(setup.model, params, axis)
            image = plots.decision_surface(panel, axis, outputs, *setup.batch)
            panel.set_title("\n".join([*textwrap.wrap(member.what, 26), f"seed {seed}"]), fontsize="medium")
            if panel.get_subplotspec().colspan.start:
                panel.set_ylabel("")
        figure.colorbar(image, ax=panels[: len(members)], label="output (white line: ½)", shrink=0.85)

    return _figure(
        draw, "outputs of a typical network of each class over the plane of its two inputs", 10.0, 3.8 * down
    )


def _extremes(stored: StudyStore, members: Sequence[Member]) -> str:
    rows = [
        [
            html.escape(member.what),
            f"{member.solved_epoch:,}" if member.solved_epoch >= 0 else "never",
            a_loss(_finite(member.loss)),
            _command(stored, member),
        ]
        for member in members
    ]
    return _section(
        "The slowest, and the strangest", _table(["what", "solved at epoch", "loss", "trained again by"], rows)
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def named(stored: StudyStore, indices: Mapping[str, int]) -> tuple[int, dict[str, float]]:
    """The seed and the hyper-parameters of the member at these indices."""
    seed = int(seeds_at(stored.seeds, np.array([indices[SEED]]))[0])
    own = {axis: values[indices[axis]] for axis, values in stored.values.items()}
    return seed, {**own, **stored.metadata["shared"]}


def _command(stored: StudyStore, member: Member) -> str:
    seed, hparams = named(stored, member.indices)
    at = [word for axis in stored.values for word in ("--at", f"{axis}={hparams[axis]!r}")]
    words = ["xorjax", "study", "replay", stored.name, "--seed", str(seed), *at]  # quoted, as a shell wants them
    return f"<code>{html.escape(shlex.join(words))}</code>"
