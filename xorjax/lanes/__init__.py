"""Programs of tiny arrays, run for many members at once in vector lanes.

`lane_vmap` is a drop-in for `jax.vmap`; `explain` says what it does with a program, and why; `scalarize` is its
deep form by itself. This layer imports nothing else of xorjax. `transform` has the call and `cost` the choice of
depth; `scalar/` makes every array element a variable of its own, `arrays/` keeps arrays with the lanes last, and
`kernel/` runs a scalarized loop in a Pallas kernel.

>>> import jax.numpy as jnp
>>> lane_vmap(lambda w, x: x @ w, in_axes=(0, None))(jnp.ones((5, 2, 2)), jnp.ones((4, 2))).shape
(5, 4, 2)
"""

from xorjax.lanes.cost import Explanation
from xorjax.lanes.scalar.interpreter import count_operations, scalarize
from xorjax.lanes.transform import explain, lane_vmap

__all__ = ["Explanation", "count_operations", "explain", "lane_vmap", "scalarize"]
