"""Programs of tiny arrays, run for many members at once in vector lanes.

A vector instruction applies one operation to 8 or 16 numbers, the lanes. `jax.vmap` of a 2×2 matrix product makes
a batch of tiny matrices, for which XLA uses no vector instructions. `lane_vmap` is a drop-in for `jax.vmap` that
puts one member in each lane instead: every operation then works on a vector of members. Start from

- `lane_vmap(fn)`, which maps a function over members, several times faster for loops of small dense arithmetic;
- `explain(fn, *args)`, which tells how `lane_vmap` runs it, and why;
- `scalarize(fn)`, the depth "scalar" by itself, for `jax.vmap` or a Pallas kernel to map.

There are two depths, chosen by the number of operations: "scalar" makes every array element a variable of its own
(`scalar/`), and "array" keeps arrays, with the lanes as their last axis (`arrays/`). Larger programs are left to
`jax.vmap`. `transform` has the call, `cost` the choice of the depth, `depths` runs a program at each of them, and
`native` makes one native function of a loop. `kernel/` runs a scalarized loop in a Pallas kernel. Only `jaxprs`
knows how JAX's versions differ. This layer imports nothing else of xorjax.

Each depth has rules for JAX's primitives: the tables `RULES` of `scalar/interpreter.py` and
`arrays/interpreter.py`, whose rules for loops and branches are in `control_flow`. A primitive without a rule runs
as under `jax.vmap`, by itself: as right, and slower, since its operands are moved. To add a rule, read the guides
of `scalar` and `arrays`, and add a program that uses the primitive to `tests/lanes/programs.py`.

>>> import jax, jax.numpy as jnp
>>> def train(w):  # 100 steps toward w @ w = I, by gradient descent
...     loss = lambda w: jnp.sum((w @ w - jnp.eye(2)) ** 2)
...     return jax.lax.fori_loop(0, 100, lambda i, w: w - 0.05 * jax.grad(loss)(w), w)
>>> weights = jnp.linspace(0.2, 0.8, 20).reshape(5, 2, 2)  # five members
>>> bool(jnp.allclose(lane_vmap(train)(weights), jax.vmap(train)(weights), atol=1e-4))
True
>>> explain(train, weights).depth
'scalar'
"""

from xorjax.lanes.cost import Explanation
from xorjax.lanes.scalar.transform import count_operations, scalarize
from xorjax.lanes.transform import explain, lane_vmap

__all__ = ["Explanation", "count_operations", "explain", "lane_vmap", "scalarize"]
