"""Loops of scalars in a Pallas kernel, for GPUs and TPUs.

`scalarize_loop` turns the jaxpr of one member into a loop of vectors, `unsupported_reason` says whether a
`KernelBackend` can lower it, and `run_kernel` launches it: a member is a lane, and its state stays in registers.

>>> import jax, jax.numpy as jnp
>>> from xorjax.lanes.kernel.backends import BACKENDS
>>> from xorjax.lanes.kernel.launch import run_kernel, scalarize_loop, unsupported_reason
>>> def halve(x, count):
...     return jax.lax.fori_loop(0, count, lambda _, x: 0.5 * x, x)
>>> closed = jax.make_jaxpr(halve)(jnp.float32(0), jnp.int32(0))
>>> loop = scalarize_loop(closed, BACKENDS["interpret"])
>>> print(unsupported_reason(loop, BACKENDS["interpret"]))
None
>>> carried, _ = run_kernel(loop, BACKENDS["interpret"], [jnp.ones((1, 128))], [], jnp.array([3]), jnp.int32(128))
>>> float(carried[0][0, 5])  # of member 5, after three halvings
0.125
"""
