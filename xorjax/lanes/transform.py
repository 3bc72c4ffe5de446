"""`lane_vmap`: a drop-in for `jax.vmap` on programs of tiny arrays, which has the members in vector lanes.

The mapped axis, the lanes, goes last, where vector instructions and GPU threads run along it, and the program is
rewritten at one of two depths: every array element a scalar of its own (`scalarize`), or arrays that stay
arrays with only products and reductions written out (`lane_rules.py`). `jax.vmap` itself cannot do the second:
some of its rules move the mapped axis to the front. Here are the call, the cost model and the blocks of lanes; the
modules `lane_…` have the rest, and use nothing of the package but those of `scalarize`.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from xorjax.lanes.arrays.interpreter import find_mapped_results
from xorjax.lanes.arrays.rules import Mapped, broadcast_lanes
from xorjax.lanes.cost import Explanation, plan_lanes
from xorjax.lanes.depths import MemberProgram, find_traced_consts, run_program
from xorjax.lanes.jaxprs import outlined_call, platform, primitive_names

DEPTHS = ("auto", "scalar", "array")

CALLBACKS = frozenset(("ffi_call", "pure_callback"))  # which are not to be called for members that do not exist


# Whether a member of another `lane_vmap` is being traced, whose blocks are then those of both.
_within_another = ContextVar("_within_another", default=False)


def lane_vmap(
    fn: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    *,
    depth: Literal["auto", "scalar", "array"] = "auto",
    assume_finite: bool = False,
) -> Callable[..., Any]:
    """`jax.vmap(fn, in_axes, out_axes)`, with the members in vector lanes: for tiny arrays, much faster.

    The result is compiled (`jax.jit` is part of it) and equals that of vmap to rounding. Sums and products of
    matrices run from the first term to the last in every member. On CPUs, members run in blocks of one size, the
    last one filled up, so that no member's bits depend on how many others there are; see `explain` for the size.
    (Not for programs that print or call Python, whose members run as they are, nor for JAX's "rbg" generators,
    which draw numbers for all members at once.) `jax.linear_transpose` does not go through it.

    Args:
      fn: a function of pytrees of arrays to pytrees of arrays.
      in_axes: as for `jax.vmap`; keyword arguments are mapped along their first axis.
      out_axes: as for `jax.vmap`.
      depth: "scalar", "array", or "auto" to choose by the number of operations, see `explain`.
      assume_finite: as for `scalarize`; products with constant zeros are 0 at the depth "scalar".

    Raises:
      TypeError, ValueError: those of `jax.vmap`, or for an unknown depth.

    >>> double = lane_vmap(lambda w, x: x @ w, in_axes=(0, None))
    >>> double(2 * jnp.ones((5, 2, 2)), jnp.ones((4, 2))).shape
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
        leaves = [
            leaf if axis is None else jnp.moveaxis(leaf, axis, -1)
            for leaf, axis in zip(call.leaves, call.axes, strict=True)
        ]
        outs = _run_in_blocks(program, leaves, call.n_lanes, size)
        axes = call.out_axes(out_axes)
        if any(axis is None and is_lane for axis, is_lane in zip(axes, call.are_lanes, strict=True)):
            return jax.vmap(fn, in_axes, out_axes)(*args, **kwargs)  # raises, and says which output
        moved = [
            out
            if axis is None
            else jnp.moveaxis(
                broadcast_lanes(call.n_lanes, Mapped(out) if is_lane else out, member.shape), -1, axis
            )
            for out, axis, is_lane, member in zip(
                outs, axes, call.are_lanes, jax.tree.leaves(call.out_shapes), strict=True
            )
        ]
        return jax.tree.unflatten(call.out_tree, moved)

    # Two functions for JAX to remember, so that what one is traced to never stands for the other.
    alone, within = (jax.jit(wraps(fn)(partial(run, is_outermost))) for is_outermost in (True, False))

    @wraps(fn)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        return (within if _within_another.get() else alone)(*args, **kwargs)

    return mapped


def _can_pad(closed: Any) -> bool:
    """Whether members may be filled up to blocks, which also run what is only there to fill them."""
    calls_back = closed.effects or not CALLBACKS.isdisjoint(primitive_names(closed))
    return platform() == "cpu" and not calls_back


def _run_in_blocks(program: MemberProgram, leaves: Sequence[Any], n_lanes: int, size: int) -> list[Any]:
    """The results for all lanes, from blocks that XLA makes the same code for: the same bits in any company."""
    if n_lanes == 0:
        return run_program(program, 0, *leaves)
    n_blocks = -(-n_lanes // size)

    def filled(leaf: Any) -> Any:
        if n_blocks * size == n_lanes:
            return leaf
        last = lax.stop_gradient(lax.slice_in_dim(leaf, n_lanes - 1, n_lanes, axis=-1))
        extra = jnp.broadcast_to(last, (*leaf.shape[:-1], n_blocks * size - n_lanes))
        return jnp.concatenate([leaf, extra], -1)

    def block(mapped: Sequence[Any]) -> list[Any]:
        of_block = iter(mapped)
        each = [
            next(of_block) if is_lane else leaf for leaf, is_lane in zip(leaves, program.are_mapped, strict=True)
        ]
        return outlined_call(partial(run_program, program, size), *each)

    mapped = [filled(leaf) for leaf, is_lane in zip(leaves, program.are_mapped, strict=True) if is_lane]
    if n_blocks == 1:
        outs = block(mapped)
    else:
        rows = lax.map(block, [split_blocks(leaf, size) for leaf in mapped])
        outs = [
            merge_blocks(out) if is_lane else out[0] for out, is_lane in zip(rows, program.are_lanes, strict=True)
        ]
    return [out[..., :n_lanes] if is_lane else out for out, is_lane in zip(outs, program.are_lanes, strict=True)]


def split_blocks(array: Any, size: int) -> Any:
    """(…, lanes) as (blocks, …, size)."""
    return jnp.moveaxis(array.reshape(*array.shape[:-1], array.shape[-1] // size, size), -2, 0)


def merge_blocks(blocks: Any) -> Any:
    """(blocks, …, size) as (…, lanes)."""
    n_blocks, *shape, size = blocks.shape
    return jnp.moveaxis(blocks, 0, -2).reshape(*shape, n_blocks * size)


def explain(fn: Callable[..., Any], *args: Any, in_axes: Any = 0, **kwargs: Any) -> Explanation:
    """What `lane_vmap(fn, in_axes)` does on these arguments, and why. Traces `fn`, and compiles nothing.

    Args:
      fn, in_axes: as for `lane_vmap`.
      args: arrays, or `jax.ShapeDtypeStruct`s, with the axes of members that `in_axes` names.
      kwargs: likewise, with a leading one.

    Raises:
      TypeError, ValueError: those of `jax.vmap`.

    >>> explain(lambda w, x: x @ w, jnp.zeros((64, 2, 2)), jnp.zeros((64, 4, 2))).depth
    'scalar'
    """
    shapes, keyword_shapes = jax.eval_shape(lambda *args, **kwargs: (args, kwargs), *args, **kwargs)
    return plan_lanes(_Call(fn, in_axes, shapes, keyword_shapes).closed)


class _Call:
    """A call of a mapped function, on arrays or on `jax.ShapeDtypeStruct`s, and the jaxpr of one member."""

    def __init__(self, fn: Callable[..., Any], in_axes: Any, args: Any, kwargs: Any):
        leaves, tree = jax.tree.flatten((args, kwargs))
        try:
            in_axes_tuple = tuple(in_axes) if isinstance(in_axes, list) else in_axes  # as `jax.vmap` takes it
            axes = [*_broadcast_axes(in_axes_tuple, args), *_broadcast_axes(0, kwargs)]
            axes = [
                None if axis is None else range(leaf.ndim)[axis] for leaf, axis in zip(leaves, axes, strict=True)
            ]
            (self.n_lanes,) = {
                leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None
            }
        except (ValueError, TypeError, IndexError):
            jax.eval_shape(jax.vmap(fn, in_axes), *args, **kwargs)  # raises, and says what is wrong
            raise
        members = [
            jax.ShapeDtypeStruct(_drop_axis(leaf.shape, axis), leaf.dtype, weak_type=leaf.weak_type)
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        args, kwargs = jax.tree.unflatten(tree, members)
        token = _within_another.set(True)
        try:
            self.closed, self.out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        finally:
            _within_another.reset(token)
        self.out_tree = jax.tree.structure(self.out_shapes)
        self.are_lanes = find_mapped_results(self.closed, [axis is not None for axis in axes])
        # What `fn` closes over and JAX may differentiate is an argument like any other.
        traced = find_traced_consts(self.closed)
        self.leaves = [*traced, *leaves]
        self.axes = [*(None for _ in traced), *axes]
        self.are_mapped = [axis is not None for axis in self.axes]

    def out_axes(self, out_axes: Any) -> list[Any]:
        return _broadcast_axes(out_axes, self.out_shapes)


def _drop_axis(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    return tuple(size for i, size in enumerate(shape) if i != axis)


def _broadcast_axes(axes: Any, tree: Any) -> list[Any]:
    """One axis for each leaf of the tree, of which `axes` is a prefix."""
    found: list[Any] = []
    jax.tree.map(
        lambda axis, part: found.extend([axis] * len(jax.tree.leaves(part))),
        axes,
        tree,
        is_leaf=lambda x: x is None,
    )
    return found
