"""The statistics of a report, and the dictionary that it is made of: of one combination, of many, and of a study.

The statistics stream, so memory does not grow with the members. The dictionary has the types that JSON has;
tables, figures and the page show it.
"""

import itertools
import math
import operator
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from xorjax.ensembles.accumulator import Accumulator, combine
from xorjax.ensembles.members import SEED, AxisIndices
from xorjax.networks.tasks import Batch
from xorjax.reports.notable import BEST, Member, first_predictions, notable_members, typical_members
from xorjax.reports.published import PublishedRun, find_published
from xorjax.statistics.exact_moments import Moments, moments
from xorjax.statistics.outcomes import OutcomeClass, classes
from xorjax.statistics.quantile_bins import QUANTILE_ERROR, Histogram, histogram, quantiles
from xorjax.statistics.shares import Shares, share
from xorjax.statistics.survival import times
from xorjax.training.results import Result

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
EXACT_MEMBERS = 10**7  # quantiles of all members are exact up to this number
LOSS_EDGES = 10.0 ** np.arange(-12.0, 4.0001, 0.05)
FIELDS = frozenset({"outcome", "loss", "accuracy", "predictions", "solved_epoch", "epochs"})
HELD_OUT = frozenset({"validation_loss", "validation_accuracy"})
MAX_DOTS = 8000  # of all predictions in a figure
SHOWN_PATTERNS, COUNTED_PATTERNS = 8, 4096  # of an outcome class


class GroupStatistics(NamedTuple):
    """How members end, in arrays with an axis for each axis of the groups; None where nothing is known."""

    solved: Shares
    diverged: Shares
    all_right: Shares | None = None
    loss: Float[np.ndarray, "*groups quantiles"] | None = None  # at QUANTILES
    times: np.ndarray | None = None  # of `Times`
    held_out_all_right: Shares | None = None
    held_out_accuracy: Moments | None = None
    held_out_loss: Float[np.ndarray, "*groups quantiles"] | None = None


class ReportStatistics(NamedTuple):
    """All statistics of a report; None where nothing is known."""

    groups: dict[tuple[str, ...], GroupStatistics]  # by the axes that are kept; `()` are all members together
    epochs: int = 0  # trained by all members
    losses: Histogram | None = None
    classes: list[OutcomeClass] | None = None  # largest first
    typical: dict[str, Member] | None = None  # a member of each class
    notable: list[Member] | None = None  # members that stand out
    predictions: np.ndarray | None = None  # of the first members
    worse: dict[PublishedRun, Shares] | None = None  # the share of members whose loss is above a published one


def report_statistics(
    groupings: Mapping[tuple[str, ...], Collection[str]], batch: Batch | None = None
) -> Accumulator:
    """Return the accumulator of a report, whose statistic is a `ReportStatistics`.

    Args:
      groupings: axes to keep, and the fields of the results to tell by them; `()` has all fields that there are.
      batch: the rows that members were trained on; None leaves out classes, predictions and published results.
    """
    groups = {by: _group_statistics(by, of_group) for by, of_group in groupings.items()}
    parts = {
        "groups": (combine(groups), {"outcome"}),
        "epochs": (Accumulator(lambda members: 0, _add_epochs, operator.add, int), {"epochs"}),
        "losses": (histogram(LOSS_EDGES), {"loss"}),
        "notable": (notable_members(), {"loss", "solved_epoch"}),
    }
    if batch is not None and batch.y.shape[1] == 1:
        needed = {"predictions", "loss"}
        parts["classes"] = classes(batch.y, max_patterns=COUNTED_PATTERNS), needed
        parts["typical"] = typical_members(batch.y), needed
        parts["predictions"] = first_predictions(-(-MAX_DOTS // len(batch.y))), needed
        runs = find_published(batch)
        worse = {run: share(lambda results, loss=run.loss: ~(results.loss <= loss)) for run in runs}
        parts["worse"] = combine(worse), needed
    every = _combine_known(parts, groupings[()])
    return every._replace(finalize=lambda gathered: ReportStatistics(**every.finalize(gathered)))


def _combine_known(parts: Mapping[str, tuple[Accumulator, set[str]]], fields: Collection[str]) -> Accumulator:
    """Combine the accumulators of which all needed fields are there."""
    return combine({name: part for name, (part, needed) in parts.items() if needed <= set(fields)})


def _group_statistics(by: Sequence[str], fields: Collection[str]) -> Accumulator:
    limits = {"by": by, "exact_up_to": 0 if by else EXACT_MEMBERS}
    parts = {
        "solved": (share(by=by), {"outcome"}),
        "diverged": (share("diverged", by=by), {"outcome"}),
        "all_right": (share("all_right", by=by), {"accuracy"}),
        "loss": (quantiles(QUANTILES, **limits), {"loss"}),
        "times": (times(by=by), {"solved_epoch", "epochs"}),
        "held_out_all_right": (share("validation_all_right", by=by), {"validation_accuracy"}),
        "held_out_accuracy": (moments("validation_accuracy", by=by), {"validation_accuracy"}),
        "held_out_loss": (quantiles(QUANTILES, "validation_loss", **limits), {"validation_loss"}),
    }
    every = _combine_known(parts, fields)

    def finalize(gathered: Any) -> GroupStatistics:
        values = every.finalize(gathered)
        if "times" in values and not by:
            of_all, values["times"] = values["times"], np.empty((), object)
            values["times"][()] = of_all
        return GroupStatistics(**values)

    return every._replace(finalize=finalize)


def _add_epochs(gathered: int, results: Result, indices: AxisIndices) -> int:
    return gathered + int(np.asarray(results.epochs, np.int64).sum())


def summarize(
    found: ReportStatistics, axes: Mapping[str, Sequence[float]], seeds: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return the dictionary of a report: what all members say, and each group of them.

    The axes are all but the seeds, in the order of the groups. Without seeds, the best member is not named.
    """
    every = found.groups[()]
    summary = {"members": int(every.solved.total), **_describe_group(every, ())}
    if every.loss is not None:
        summary["loss_quantile_error"] = 0.0 if summary["members"] <= EXACT_MEMBERS else QUANTILE_ERROR
    finite = [member for member in found.notable or [] if BEST in member.description]
    if finite and seeds is not None:
        best = min(finite, key=lambda member: member.loss)
        of_axes = {axis: values[best.indices[axis]] for axis, values in axes.items()}
        summary["best"] = {SEED: int(seeds[best.indices[SEED]]), **of_axes, "loss": best.loss}
    if found.classes is not None:
        patterns = [dict(list(each.patterns.items())[:SHOWN_PATTERNS]) for each in found.classes]
        summary["ended_as"] = [
            {"name": c.name, "members": c.number, "share": c.number / summary["members"], "patterns": shown}
            for c, shown in zip(found.classes, patterns, strict=True)
        ]
    if found.worse is not None:
        summary["published"] = [
            {"source": run.source, "learning_rate": run.learning_rate, "loss": run.loss, "better_than": better}
            for run, better in ((run, float(shares.share)) for run, shares in found.worse.items())
        ]
    if axes and tuple(axes) in found.groups:
        summary["axes"] = {name: list(values) for name, values in axes.items()}
        summary["group_loss_quantile_error"] = QUANTILE_ERROR
        summary["groups"] = _describe_groups(found, axes)
        summary["by_axis"] = {axis: _describe_groups(found, {axis: values}) for axis, values in axes.items()}
    return summary


def _describe_groups(found: ReportStatistics, axes: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return a dictionary for each group, the last axis fastest; values are None in a group without members."""
    groups = found.groups[tuple(axes)]
    places = [dict(zip(axes, place, strict=True)) for place in itertools.product(*axes.values())]
    return [
        {**place, "members": int(groups.solved.total[at]), **_describe_group(groups, at)}
        for place, at in zip(places, np.ndindex(groups.solved.total.shape), strict=True)
    ]


def _describe_group(groups: GroupStatistics, at: tuple[int, ...]) -> dict[str, Any]:
    shares = {"all_right": groups.all_right, "solved": groups.solved, "diverged": groups.diverged}
    entry: dict[str, Any] = {name: _describe_share(each, at) for name, each in shares.items() if each is not None}
    if groups.held_out_all_right and groups.held_out_accuracy and groups.held_out_loss is not None:
        entry["held_out"] = {
            "all_right": _describe_share(groups.held_out_all_right, at),
            "accuracy": _finite(groups.held_out_accuracy.mean[at]),
            "loss_quantiles": _by_quantile(groups.held_out_loss[at]),
        }
    if groups.loss is not None:
        entry["loss_quantiles"] = _by_quantile(groups.loss[at])
    if groups.times is not None:
        entry["epochs_to_solve"] = _by_quantile(groups.times[at].quantiles(QUANTILES))
    return entry


def _describe_share(shares: Shares, at: tuple[int, ...]) -> dict[str, Any]:
    number, total, *values = (each[at] for each in shares)
    share, low, high = (float(value) if total else None for value in values)
    return {"members": int(number), "share": share, "low": low, "high": high}


def _by_quantile(values: np.ndarray) -> dict[str, float | None]:
    return {f"{q:g}": _finite(value) for q, value in zip(QUANTILES, values, strict=True)}


def _finite(value: float) -> float | None:
    """Return a float, or None for an infinite one: JSON has no infinity."""
    return float(value) if math.isfinite(value) else None


def versions() -> dict[str, str]:
    """Return the versions and the platform on which results depend, besides seeds and hyper-parameters."""
    packages = {"xorjax": version("xorjax"), "jax": jax.__version__, "jaxlib": jax.lib.__version__}
    return {**packages, "platform": jax.default_backend(), "device": jax.devices()[0].device_kind}
