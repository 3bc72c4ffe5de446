"""The report of a study: one HTML page that holds all its figures, and loads nothing from any network."""

import base64
import html
import io
import itertools
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from xorjax.ensembles.ensemble import replay
from xorjax.ensembles.members import SEED
from xorjax.reports import figures
from xorjax.reports.notable import Member
from xorjax.reports.summary import FIELDS, ReportStatistics, report_statistics, summarize
from xorjax.reports.tables import format_loss, split_percent
from xorjax.statistics.arrays import percent
from xorjax.statistics.outcomes import CLASSES
from xorjax.statistics.shares import Shares
from xorjax.studies.plan import Setup
from xorjax.studies.reduce import reduce_study
from xorjax.studies.store.seed_ranges import seeds_at
from xorjax.studies.store.shards import StudyStore

DPI = 110
MAX_PAIRS = 6  # heat maps
MAX_VALUES = 200  # of an axis that has a figure
MAX_CURVES = 6  # of survival, in one figure
MAX_SURFACES = 6
ACROSS = 3  # surfaces side by side

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title · xorjax</title>
<link rel="icon" href="data:,">
<style>
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
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="soft">$store</p>
$sections
</main>
</body>
</html>
""")


def render_page(study: StudyStore, setup: Setup | None) -> str:
    """Return the report of a study, as HTML, without surfaces of its members if there is no setup to train them.

    Raises:
      ValueError: if no member is committed, or a file is damaged.
    """
    sizes = study.layout.axes
    axes = [axis for axis in sizes if axis != SEED and sizes[axis] <= MAX_VALUES]
    pairs = list(itertools.combinations(axes, 2))[:MAX_PAIRS]
    curves_by = tuple(axis for axis in axes if 1 < sizes[axis] <= MAX_CURVES)[:1]
    fields = {variable.name for variable in study.layout.variables} & FIELDS
    shown = [*((axis,) for axis in axes), *pairs]
    groupings: dict[tuple[str, ...], set[str]] = {(): fields, **{by: {"outcome"} for by in shown}}
    if curves_by:
        groupings[curves_by] = fields & {"outcome", "solved_epoch", "epochs"}
    found: ReportStatistics = reduce_study(study, report_statistics(groupings, setup.batch if setup else None))
    if not int(found.groups[()].solved.total):
        raise ValueError(f"{study.name} has no member yet that a report could be of.")
    summary = summarize(found, {})
    sections = [_render_tiles(study, summary), _render_settings(study)]
    sections += [_render_shares(study, by, found.groups[by].solved) for by in shown]
    sections += [_render_losses(found), _render_survival(study, found, curves_by)]
    if setup is not None:
        sections.append(_render_classes(study, found, summary["ended_as"], setup) if found.typical else "")
    sections.append(_render_notable(study, found.notable or []))
    title = _count(summary["members"], "network")
    text = "\n".join(section for section in sections if section)
    return PAGE.substitute(title=title, store=html.escape(study.name), sections=text)


def _render_section(title: str, *parts: str, note: str = "") -> str:
    notes = [f'<p class="soft">{note}</p>'] if note else []
    return "\n".join([f"<section>\n<h2>{html.escape(title)}</h2>", *parts, *notes, "</section>"])


def _render_figure(draw: Callable[[Figure], object], words: str, width: float = 8.0, height: float = 4.2) -> str:
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    content = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{content}">'


def _render_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _name_axis(axis: str) -> str:
    return axis.replace("_", " ")


def _render_tiles(study: StudyStore, summary: Mapping[str, Any]) -> str:
    total, whole, solved = summary["members"], study.layout.members, summary["solved"]
    members = "members" if whole != 1 else "member"
    tiles = {
        members if total == whole else f"of {whole:,} {members}": f"{total:,}",
        f"solved ({100 * solved['low']:.2f} to {100 * solved['high']:.2f} %)": percent(solved["share"]),
    }
    if "all_right" in summary:
        tiles["with all rows right"] = percent(summary["all_right"]["share"])
    if quantiles := summary.get("loss_quantiles"):
        losses = [quantiles[at] for at in ("0.05", "0.5", "0.95")]
        about = "≈ " if summary["loss_quantile_error"] else ""
        low, median, high = (f"{about * (loss is not None)}{format_loss(loss)}" for loss in losses)
        tiles[f"median loss (5 % to 95 %: {low} to {high})"] = median
    if diverged := summary["diverged"]["members"]:
        tiles["diverged"] = f"{diverged:,}"
    tile = '<div class="tile"><b>{}</b><span>{}</span></div>'
    text = "".join(tile.format(html.escape(number), html.escape(words)) for words, number in tiles.items())
    return f'<div class="tiles">{text}</div>'


def _render_settings(study: StudyStore) -> str:
    metadata, plan = study.metadata, study.metadata["plan"] or {"epochs": study.metadata["epochs"]}
    rows = [(name, value) for name, value in plan.items() if value is not None and name != "data"]
    for axis, values in study.values.items():
        shown = ", ".join(f"{value:g}" for value in values[:8])
        rest = f", … {values[-1]:g}" if len(values) > 8 else ""
        rows.append((axis, f"{_count(len(values), 'value')}: {shown}{rest}"))
    rows += [(name, f"{value:g}") for name, value in metadata["shared"].items()]
    parts = [f"{first:,} to {stop - 1:,}" if stop - first > 1 else f"{first:,}" for first, stop in study.seeds[:4]]
    rest = ", …" if len(study.seeds) > 4 else ""
    rows.append(("seeds", f"{study.layout.axes[SEED]:,}: {', '.join(parts)}{rest}"))
    versions = ", ".join(f"{name} {version}" for name, version in metadata["versions"].items())
    rows.append(("trained by", f"{versions}; {metadata['platform']}, engine {metadata['engine']}"))
    cells = [[html.escape(_name_axis(name)), html.escape(str(value))] for name, value in rows]
    return _render_section("What was run", _render_table(["", ""], cells))


def _render_shares(study: StudyStore, by: tuple[str, ...], shares: Shares) -> str:
    """Return the section with the share solved along an axis, or over two."""
    names = " and ".join(map(_name_axis, by))
    values = {axis: study.values[axis] for axis in by}
    words, note = f"share solved over {names}", ""
    if len(by) == 1:
        words = f"share of members solved at each {names}, with intervals of 95 %"
        note = "Over all values of the other axes, with Wilson's intervals of 95 %."
    picture = _render_figure(lambda figure: figures.draw_shares(figure, values, shares), words)
    return _render_section(f"Solved, by {names}", picture, note=note)


def _render_losses(found: ReportStatistics) -> str:
    losses = found.losses
    if losses is None:
        return ""
    others, low, high = losses.outside, losses.edges[0], losses.edges[-1]
    losses_are = "loss is" if others == 1 else "losses are"
    note = f"{others:,} {losses_are} below {low:g}, above {high:g} or not a number." if others else ""
    words = "how many members ended with which loss"
    picture = _render_figure(lambda figure: figures.draw_losses(figure.subplots(), losses), words)
    return _render_section("Final losses", picture, note=note)


def _render_survival(study: StudyStore, found: ReportStatistics, by: tuple[str, ...]) -> str:
    times = found.groups[by].times
    if times is None:
        return ""
    names = [f"{_name_axis(by[0])} {value:g}" for value in study.values[by[0]]] if by else [""]
    curves = {name: each.survival() for name, each in zip(names, times.flat, strict=True) if each.number}
    words = "share of members not yet solved, by epoch"
    solved = "all patterns are right and its loss is below 0.01, unless the study has a rule of its own"
    estimate = "Kaplan and Meier's estimate with its interval of 95 %; members that were never solved"
    note = f"{estimate} are watched until their training ended. A member is solved when {solved}."
    picture = _render_figure(lambda figure: figures.draw_survival(figure.subplots(), curves), words)
    return _render_section("How long it takes", picture, note=note)


def _render_classes(
    study: StudyStore, found: ReportStatistics, ended_as: Sequence[Mapping[str, Any]], setup: Setup
) -> str:
    typical, shares = found.typical or {}, split_percent([each["members"] for each in ended_as])
    members = [typical[each["name"]] for each in ended_as]
    rows = [
        [html.escape(each["name"]), f"{each['members']:,}", share, *_render_member(study, member)]
        for each, share, member in zip(ended_as, shares, members, strict=True)
    ]
    table = _render_table(["ended as", "members", "share", "loss of a typical one", "trained again by"], rows)
    shown = [member for member in members if member.description != CLASSES[0]][:MAX_SURFACES]
    has_surfaces = shown and setup.batch.x.shape[1] == 2
    surfaces = [_draw_surfaces(study, shown, setup)] if has_surfaces else []
    return _render_section("How networks end", *surfaces, table)


def _draw_surfaces(study: StudyStore, members: Sequence[Member], setup: Setup) -> str:
    axis = np.linspace(-0.25, 1.25, 101)
    epochs, engine = [setup.trainer.epochs], study.metadata["engine"]

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("compressed")  # whose panels all have one aspect
        panels = figures.add_panels(figure, len(members), ACROSS)
        image: Any = None
        for i, (panel, member) in enumerate(zip(panels, members, strict=True)):
            seed, hparams = _identify(study, member)
            final = replay(setup.trainer, seed, hparams, epochs=epochs, engine=engine)
            params = jax.tree.map(lambda leaf: leaf[0], final.params)
            outputs = figures.compute_surface(setup.model, params, axis)
            image = figures.draw_decision_surface(panel, axis, outputs, setup.batch)
            title = [*textwrap.wrap(member.description, 26), f"seed {seed}"]
            panel.set_title("\n".join(title), fontsize="medium")
            if i % ACROSS:
                panel.set_ylabel("")
        figure.colorbar(image, ax=panels, label="output (white line: ½)", shrink=0.85)

    words = "outputs of a typical network of each class over the plane of its two inputs"
    return _render_figure(draw, words, 10.0, 3.8 * -(-len(members) // ACROSS))


def _render_notable(study: StudyStore, members: Sequence[Member]) -> str:
    epochs = [f"{member.solved_epoch:,}" if member.solved_epoch >= 0 else "never" for member in members]
    rows = [
        [html.escape(member.description), epoch, *_render_member(study, member)]
        for member, epoch in zip(members, epochs, strict=True)
    ]
    table = _render_table(["the member", "solved at epoch", "loss", "trained again by"], rows)
    return _render_section("Notable members", table) if rows else ""


def _identify(study: StudyStore, member: Member) -> tuple[int, dict[str, float]]:
    """Return the seed and the hyper-parameters of a member."""
    seed = int(seeds_at(study.seeds, np.array([member.indices[SEED]]))[0])
    own = {axis: values[member.indices[axis]] for axis, values in study.values.items()}
    return seed, {**own, **study.metadata["shared"]}


def _render_member(study: StudyStore, member: Member) -> tuple[str, str]:
    """Return the loss of a member, and the command that trains it again, quoted as a shell wants it."""
    seed, hparams = _identify(study, member)
    at = [word for axis in study.values for word in ("--at", f"{axis}={hparams[axis]!r}")]
    words = ["xorjax", "study", "replay", study.name, "--seed", str(seed), *at]
    return format_loss(member.loss), f"<code>{html.escape(shlex.join(words))}</code>"
