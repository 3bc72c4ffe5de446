"""The depth "scalar": a function of small arrays rewritten as one of scalars.

`jax.vmap` of a scalarized function makes each scalar a vector over the members, so the program becomes a chain of
elementwise operations. `transform` has `scalarize`. `interpreter` evaluates a jaxpr on NumPy arrays of scalar
tracers, which `elements` splits and assembles. Rules for primitives are in `elementwise`, `structure`,
`reductions`, `indexing` (which sorts too) and `control_flow`, and those for kernels in `random` and
`kernel_rules`. For a primitive without a rule, elements are joined to arrays, and the primitive runs unchanged.
`folding` computes known results while tracing. To add a primitive, write a rule `rule(scalars, eqn, *operands)` as
`values` describes, and add it to its module's table. `cost.KNOWN` takes the tables of reductions and indexing; a
kernel allows what its backend lists.

>>> import jax, jax.numpy as jnp
>>> from xorjax.lanes.scalar.transform import scalarize
>>> jaxpr = jax.make_jaxpr(scalarize(lambda w, x: w @ x))(jnp.ones((1, 2)), jnp.ones(2))
>>> [eqn.primitive.name for eqn in jaxpr.eqns if eqn.primitive.name in ("mul", "add", "dot_general")]
['mul', 'mul', 'add']
"""
