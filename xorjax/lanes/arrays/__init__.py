"""The depth "array": arrays stay arrays, with the lanes as their last axis.

Elementwise operations then run along the lanes, and moving elements needs no more than another axis. Only matrix
products and reductions are written out, as sums of slices. `interpreter` evaluates a jaxpr on `Mapped` arrays. A
primitive has a rule in `rules`, `products` or `lanes.control_flow`; any other runs through `jax.vmap` by itself.
`mapped` finds which values differ by member, and `reuse` which ones are materialized. To add a primitive, write a
rule `rule(lanes, eqn, *operands)` as `values` describes, and add it to its module's table.

>>> import jax, jax.numpy as jnp
>>> from xorjax.lanes.arrays.interpreter import LaneInterpreter
>>> from xorjax.lanes.arrays.values import Mapped
>>> jaxpr = jax.make_jaxpr(lambda w, x: w @ x)(jnp.ones((3, 2)), jnp.ones(2))
>>> (out,) = LaneInterpreter(5).evaluate(jaxpr, [], [Mapped(jnp.ones((3, 2, 5))), jnp.ones(2)])
>>> out.array.shape  # the results of five members
(3, 5)
"""
