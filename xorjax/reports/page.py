"""The report of a study: one HTML page that holds all its figures, and loads nothing from any network."""

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

from xorjax.ensembles.ensemble import replay
from xorjax.ensembles.members import SEED
from xorjax.reports import figures
from xorjax.reports.notable import Member
from xorjax.reports.summary import HELD_OUT, ReportStatistics, report_statistics, summarize
from xorjax.reports.tables import format_loss, split_percent
from xorjax.statistics import Shares
from xorjax.statistics.arrays import percent
from xorjax.statistics.outcomes import CLASSES
from xorjax.studies import reduce as studies
from xorjax.studies.plan import Setup
from xorjax.studies.store.seed_ranges import seeds_at
from xorjax.studies.store.shards import StudyStore

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
    axes = [axis for axis in stored.layout.axes if axis != SEED and stored.layout.axes[axis] <= MAX_VALUES]
    pairs = list(itertools.combinations(axes, 2))[:MAX_PAIRS]
    curves_by = _curves_by(stored, axes)
    shares = {"outcome"}
    groupings: dict[tuple[str, ...], set[str]] = {
        (): studies.kept_fields(stored) - HELD_OUT,
        **{(axis,): shares for axis in axes},
        **dict.fromkeys(pairs, shares),
    }
    if curves_by:
        groupings[curves_by] = groupings[()] & {"outcome", "solved_epoch", "epochs"}
    accumulator = report_statistics(groupings, setup.batch if setup else None)
    found: ReportStatistics = studies.reduce_study(stored, accumulator)
    if not int(found.groups[()].solved.total):
        raise ValueError(f"{stored.name} has no member yet that a report could be of.")
    summary = summarize(found, {})
    sections = [_tiles(stored, summary), _described(stored)]
    sections += [_along(stored, axis, found.groups[(axis,)].solved) for axis in axes]
    sections += [_map(stored, pair, found.groups[pair].solved) for pair in pairs]
    sections += [_losses(found), _survival(stored, found, curves_by)]
    sections += [_classes(stored, found, summary, setup), _notable(stored, found.notable or [])]
    title = _counted(summary["members"], "network")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title} · xorjax</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n'
        f'<p class="soft">{html.escape(stored.name)}</p>\n'
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def _curves_by(stored: StudyStore, axes: Sequence[str]) -> tuple[str, ...]:
    """The axis whose values have a survival curve each, if they are few."""
    return tuple(axis for axis in axes if 1 < stored.layout.axes[axis] <= MAX_CURVES)[:1]


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


def _tiles(stored: StudyStore, summary: Mapping[str, Any]) -> str:
    total, whole = summary["members"], stored.layout.members
    members = "member" if whole == 1 else "members"
    solved = summary["solved"]
    tiles = [
        (f"{total:,}", members if total == whole else f"of {whole:,} {members}"),
        (percent(solved["share"]), f"solved ({100 * solved['low']:.2f} to {100 * solved['high']:.2f} %)"),
    ]
    if "all_right" in summary:
        tiles.append((percent(summary["all_right"]["share"]), "with all rows right"))
    if quantiles := summary.get("loss_quantiles"):
        about = "≈ " if summary["loss_quantile_error"] else ""
        low, median, high = (
            f"{about * (loss is not None)}{format_loss(loss)}"
            for loss in (quantiles["0.05"], quantiles["0.5"], quantiles["0.95"])
        )
        tiles.append((median, f"median loss (5 % to 95 %: {low} to {high})"))
    if diverged := summary["diverged"]["members"]:
        tiles.append((f"{diverged:,}", "diverged"))
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
    words = f"share of members solved at each {_in_words(axis)}, with intervals of 95 %"
    return _section(
        f"Solved, by {_in_words(axis)}",
        _figure(lambda figure: figures.draw_shares(figure, {axis: stored.values[axis]}, shares), words),
        '<p class="soft">Over all values of the other axes, with Wilson\'s intervals of 95 %.</p>',
    )


def _map(stored: StudyStore, pair: tuple[str, ...], shares: Shares) -> str:
    names = " and ".join(map(_in_words, pair))
    values = {axis: stored.values[axis] for axis in pair}
    picture = _figure(lambda figure: figures.draw_shares(figure, values, shares), f"share solved over {names}")
    return _section(f"Solved, by {names}", picture)


def _losses(found: ReportStatistics) -> str:
    losses = found.losses
    if losses is None:
        return ""

    def draw(figure: Figure) -> None:
        figures.draw_losses(figure.subplots(), losses)

    others, low, high = losses.outside, losses.edges[0], losses.edges[-1]
    losses_are = "loss is" if others == 1 else "losses are"
    words = f'<p class="soft">{others:,} {losses_are} below {low:g}, above {high:g} or not a number.</p>'
    return _section(
        "Final losses", _figure(draw, "how many members ended with which loss"), words if others else ""
    )


def _survival(stored: StudyStore, found: ReportStatistics, by: tuple[str, ...]) -> str:
    times = found.groups[by].times
    if times is None:
        return ""
    names = [f"{_in_words(by[0])} {value:g}" for value in stored.values[by[0]]] if by else [""]
    curves = {name: each.survival() for name, each in zip(names, times.flat, strict=True) if each.number}
    return _section(
        "How long it takes",
        _figure(
            lambda figure: figures.draw_survival(figure.subplots(), curves),
            "share of members not yet solved, by epoch",
        ),
        '<p class="soft">Kaplan and Meier\'s estimate with its interval of 95 %; members that were never solved '
        "are watched until their training ended. A member is solved when all patterns are right and its loss is "
        "below 0.01, unless the study has a rule of its own.</p>",
    )


def _classes(stored: StudyStore, found: ReportStatistics, summary: Mapping[str, Any], setup: Setup | None) -> str:
    typical = found.typical
    if typical is None or setup is None:
        return ""
    ended_as = summary["ended_as"]
    rows = [
        [
            html.escape(each["name"]),
            f"{each['members']:,}",
            share,
            format_loss(_finite(typical[each["name"]].loss)),
            _command(stored, typical[each["name"]]),
        ]
        for each, share in zip(ended_as, split_percent([each["members"] for each in ended_as]), strict=True)
    ]
    table = _table(["ended as", "members", "share", "loss of a typical one", "trained again by"], rows)
    shown = [typical[each["name"]] for each in ended_as if each["name"] != CLASSES[0]][:6]
    has_surface = shown and setup.batch.x.shape[1] == 2
    return _section("How networks end", *([_surfaces(stored, shown, setup)] if has_surface else []), table)


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
            final = replay(
                setup.trainer, seed, hparams, epochs=[setup.trainer.epochs], engine=stored.metadata["engine"]
            )
            params = jax.tree.map(lambda leaf: leaf[0], final.params)
            outputs = figures.compute_surface(setup.model, params, axis)
            image = figures.draw_decision_surface(panel, axis, outputs, *setup.batch)
            title = [*textwrap.wrap(member.description, 26), f"seed {seed}"]
            panel.set_title("\n".join(title), fontsize="medium")
            if panel.get_subplotspec().colspan.start:
                panel.set_ylabel("")
        figure.colorbar(image, ax=panels[: len(members)], label="output (white line: ½)", shrink=0.85)

    return _figure(
        draw, "outputs of a typical network of each class over the plane of its two inputs", 10.0, 3.8 * down
    )


def _notable(stored: StudyStore, members: Sequence[Member]) -> str:
    rows = [
        [
            html.escape(member.description),
            f"{member.solved_epoch:,}" if member.solved_epoch >= 0 else "never",
            format_loss(_finite(member.loss)),
            _command(stored, member),
        ]
        for member in members
    ]
    table = _table(["the member", "solved at epoch", "loss", "trained again by"], rows)
    return _section("Notable members", table) if rows else ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def named(stored: StudyStore, indices: Mapping[str, int]) -> tuple[int, dict[str, float]]:
    """Return the seed and the hyper-parameters of a member."""
    seed = int(seeds_at(stored.seeds, np.array([indices[SEED]]))[0])
    own = {axis: values[indices[axis]] for axis, values in stored.values.items()}
    return seed, {**own, **stored.metadata["shared"]}


def _command(stored: StudyStore, member: Member) -> str:
    seed, hparams = named(stored, member.indices)
    at = [word for axis in stored.values for word in ("--at", f"{axis}={hparams[axis]!r}")]
    words = ["xorjax", "study", "replay", stored.name, "--seed", str(seed), *at]  # quoted, as a shell wants them
    return f"<code>{html.escape(shlex.join(words))}</code>"
