"""`lane_vmap`: a drop-in for `jax.vmap` that puts the members in vector lanes.

The mapped axis becomes the last one, along which vector instructions and the threads of a GPU run. `jax.vmap`
cannot keep it there, because some of its rules move the mapped axis to the front. This module has the call, with
its axes and trees, and the blocks of lanes.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from itertools import compress
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from xorjax.lanes.arrays.mapped import find_mapped_results
from xorjax.lanes.arrays.values import Mapped, broadcast_lanes
from xorjax.lanes.cost import Explanation, plan_lanes
from xorjax.lanes.depths import MemberProgram, find_traced_consts, run_lanes
from xorjax.lanes.jaxprs import ClosedJaxpr, outlined_call, platform, primitive_names, replace_where
from xorjax.lanes.native import run_native

DEPTHS = ("auto", "scalar", "array")
CALLBACKS = frozenset(("ffi_call", "pure_callback"))  # not to be called for members that only pad a block

Axes = Any  # a pytree prefix of integers and Nones, as `jax.vmap` takes it

# True while the member of another `lane_vmap` is traced, whose blocks hold the members of both.
_is_inside_another = ContextVar("_is_inside_another", default=False)


def lane_vmap(
    fn: Callable[..., Any],
    in_axes: Axes = 0,
    out_axes: Axes = 0,
    *,
    depth: Literal["auto", "scalar", "array"] = "auto",
    assume_finite: bool = False,
) -> Callable[..., Any]:
    """Return `jax.vmap(fn, in_axes, out_axes)` with the members in vector lanes.

    Several times faster than vmap for loops of small dense arithmetic, such as the training of tiny networks;
    slower today for some other programs, such as linear algebra or table lookups by member. Measure yours.

    The result is compiled (it includes `jax.jit`), and equals that of vmap to rounding. Sums and matrix products
    run from the first term to the last in every member. On CPUs, members run in blocks of one size, the last one
    padded, so that no bit of a member depends on the number of members; `explain` shows the size. There are two
    exceptions: programs that print or call Python, which are not padded, and JAX's "rbg" generators, which draw
    numbers for all members at once. `jax.linear_transpose` is not supported.

    Args:
      fn: a function of pytrees of arrays to pytrees of arrays.
      in_axes: as for `jax.vmap`; keyword arguments are mapped along their first axis.
      out_axes: as for `jax.vmap`.
      depth: "scalar", "array", or "auto", which chooses by the number of operations, see `explain`.
      assume_finite: as for `scalarize`: products with constant zeros are 0 at the depth "scalar".

    Returns:
      A function of batched arguments, as from `jax.vmap`.

    Raises:
      TypeError: as `jax.vmap`.
      ValueError: as `jax.vmap`, or if the depth is unknown.

    >>> multiply = lane_vmap(lambda w, x: x @ w, in_axes=(0, None))
    >>> multiply(jnp.ones((5, 2, 2)), jnp.ones((4, 2))).shape
    (5, 4, 2)
    """
    if not callable(fn):
        raise TypeError(f"{fn=} must be a function.")
    if depth not in DEPTHS:
        raise ValueError(f"{depth=} must be one of {', '.join(map(repr, DEPTHS))}.")

    def run(is_outermost: bool, *args: Any, **kwargs: Any) -> Any:
        call = _Call(fn, in_axes, args, kwargs)
        plan = plan_lanes(call.closed, depth)
        program = MemberProgram(call.closed, call.are_mapped, call.are_lanes, plan.depth, assume_finite)
        size = plan.lanes if is_outermost and _can_pad(call.closed) else call.n_lanes
        outs = _run_in_blocks(program, call.lane_leaves(), call.n_lanes, size)
        axes = _broadcast_axes(out_axes, call.out_shapes)
        if any(axis is None and is_lane for axis, is_lane in zip(axes, call.are_lanes, strict=True)):
            return jax.vmap(fn, in_axes, out_axes)(*args, **kwargs)  # raises an error that names the output
        return call.unflatten(outs, axes)

    # Two jitted functions, so that their trace caches stay separate.
    outermost, inside = (jax.jit(wraps(fn)(partial(run, is_outermost))) for is_outermost in (True, False))

    @wraps(fn)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        return (inside if _is_inside_another.get() else outermost)(*args, **kwargs)

    return mapped


def explain(fn: Callable[..., Any], *args: Any, in_axes: Axes = 0, **kwargs: Any) -> Explanation:
    """Return how `lane_vmap(fn, in_axes)` runs on these arguments, and why.

    Traces `fn`, and compiles nothing.

    Args:
      fn: as for `lane_vmap`.
      args: pytrees of arrays or of `jax.ShapeDtypeStruct`s, with the axes of members that `in_axes` names.
      in_axes: as for `lane_vmap`.
      kwargs: keyword arguments of `fn`, with a leading axis of members.

    Raises:
      TypeError: as `jax.vmap`.
      ValueError: as `jax.vmap`.

    >>> explain(lambda w, x: x @ w, jnp.zeros((64, 2, 2)), jnp.zeros((64, 4, 2))).depth
    'scalar'
    """
    shapes, keyword_shapes = jax.eval_shape(lambda *args, **kwargs: (args, kwargs), *args, **kwargs)
    return plan_lanes(_Call(fn, in_axes, shapes, keyword_shapes).closed)


def _can_pad(closed: ClosedJaxpr) -> bool:
    """Return True if the last block may be padded, and so run for members that do not exist."""
    calls_back = closed.effects or not CALLBACKS.isdisjoint(primitive_names(closed))
    return platform() == "cpu" and not calls_back


def _run_in_blocks(program: MemberProgram, leaves: Sequence[Array], n_lanes: int, size: int) -> list[Array]:
    """Run a program in blocks of `size` lanes, all by the same code, so with the same bits in any block."""

    def run_size(size: int, *args: Array) -> list[Array]:
        return run_native(partial(run_lanes, program, size), program.depth, *args)

    if n_lanes == 0:
        return run_size(0, *leaves)
    n_blocks = -(-n_lanes // size)

    def pad(leaf: Array) -> Array:
        if n_blocks * size == n_lanes:
            return leaf
        last = lax.stop_gradient(lax.slice_in_dim(leaf, n_lanes - 1, n_lanes, axis=-1))
        extra = jnp.broadcast_to(last, (*leaf.shape[:-1], n_blocks * size - n_lanes))
        return jnp.concatenate([leaf, extra], -1)

    def run_block(mapped: Sequence[Array]) -> list[Array]:
        args = replace_where(program.are_mapped, mapped, leaves)
        return outlined_call(partial(run_size, size), *args)

    mapped = list(map(pad, compress(leaves, program.are_mapped)))
    if n_blocks == 1:
        outs = run_block(mapped)
    else:
        rows = lax.map(run_block, [split_blocks(leaf, size) for leaf in mapped])
        outs = [merge_blocks(x) if is_lane else x[0] for x, is_lane in zip(rows, program.are_lanes, strict=True)]
    return [x[..., :n_lanes] if is_lane else x for x, is_lane in zip(outs, program.are_lanes, strict=True)]


def split_blocks(array: Array, size: int) -> Array:
    """Return (…, lanes) as (blocks, …, size)."""
    return jnp.moveaxis(array.reshape(*array.shape[:-1], array.shape[-1] // size, size), -2, 0)


def merge_blocks(blocks: Array) -> Array:
    """Return (blocks, …, size) as (…, lanes)."""
    n_blocks, *shape, size = blocks.shape
    return jnp.moveaxis(blocks, 0, -2).reshape(*shape, n_blocks * size)


class _Call:
    """A call of a mapped function, on arrays or on `jax.ShapeDtypeStruct`s.

    Attributes:
      n_lanes: the number of members.
      closed: the jaxpr of one member.
      out_shapes: the shapes of one member's results, in their pytree.
      are_mapped: which arguments are mapped.
      are_lanes: which results are.
    """

    def __init__(self, fn: Callable[..., Any], in_axes: Axes, args: Any, kwargs: Any):
        leaves, tree = jax.tree.flatten((args, kwargs))
        try:
            in_axes_tuple = tuple(in_axes) if isinstance(in_axes, list) else in_axes  # as `jax.vmap` does
            axes = [*_broadcast_axes(in_axes_tuple, args), *_broadcast_axes(0, kwargs)]
            axes = [a if a is None else range(leaf.ndim)[a] for leaf, a in zip(leaves, axes, strict=True)]
            (self.n_lanes,) = {leaf.shape[a] for leaf, a in zip(leaves, axes, strict=True) if a is not None}
        except (ValueError, TypeError, IndexError):
            jax.eval_shape(jax.vmap(fn, in_axes), *args, **kwargs)  # raises an error that says what is wrong
            raise
        members = [
            jax.ShapeDtypeStruct(_drop_axis(leaf.shape, axis), leaf.dtype, weak_type=leaf.weak_type)
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        args, kwargs = jax.tree.unflatten(tree, members)
        token = _is_inside_another.set(True)
        try:
            self.closed, self.out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        finally:
            _is_inside_another.reset(token)
        self.are_lanes = find_mapped_results(self.closed, [axis is not None for axis in axes])
        # Tracers that `fn` closes over are arguments too, since JAX may differentiate by them.
        traced = find_traced_consts(self.closed)
        self._leaves = [*traced, *leaves]
        self._axes = [*(None for _ in traced), *axes]
        self.are_mapped = [axis is not None for axis in self._axes]

    def lane_leaves(self) -> list[Array]:
        """Return the arguments, with the lanes last in those that are mapped."""
        each = zip(self._leaves, self._axes, strict=True)
        return [leaf if axis is None else jnp.moveaxis(leaf, axis, -1) for leaf, axis in each]

    def unflatten(self, outs: Sequence[Array], axes: Sequence[int | None]) -> Any:
        """Return the results in their pytree, with the members along these axes."""
        members, tree = jax.tree.flatten(self.out_shapes)

        def place(out: Array, is_lane: bool, member: jax.ShapeDtypeStruct, axis: int | None) -> Array:
            if axis is None:
                return out
            value = Mapped(out) if is_lane else out
            return jnp.moveaxis(broadcast_lanes(self.n_lanes, value, member.shape), -1, axis)

        return jax.tree.unflatten(tree, map(place, outs, self.are_lanes, members, axes))


def _drop_axis(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    return tuple(size for i, size in enumerate(shape) if i != axis)


def _broadcast_axes(axes: Axes, tree: Any) -> list[int | None]:
    """Return an axis for each leaf of a tree; `axes` is a prefix of the tree."""
    flat: list[int | None] = []

    def repeat(axis: int | None, part: Any) -> None:
        flat.extend([axis] * len(jax.tree.leaves(part)))

    jax.tree.map(repeat, axes, tree, is_leaf=lambda x: x is None)
    return flat
