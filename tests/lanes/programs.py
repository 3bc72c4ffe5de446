"""Small functions, one or more for every kind of operation, with arguments for one member: a table for tests.

Arguments are shapes with a dtype, or makers of values; the tests draw a batch of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name


class Program(NamedTuple):
    fn: Any
    args: tuple[Any, ...]  # shapes; ints, bools and keys are drawn as such
    exact: bool = True  # whether the arithmetic is the same as that of the function itself
    smooth: bool = True  # whether a gradient is asked for


def F(*shape: int) -> Any:
    return lambda rng, n: rng.standard_normal((n, *shape)).astype(np.float32)


def Positive(*shape: int) -> Any:
    return lambda rng, n: (0.1 + np.abs(rng.standard_normal((n, *shape)))).astype(np.float32)


def Unit(*shape: int) -> Any:
    return lambda rng, n: rng.uniform(-0.9, 0.9, (n, *shape)).astype(np.float32)


def Integer(*shape: int, low: int = -5, high: int = 6) -> Any:
    return lambda rng, n: rng.integers(low, high, (n, *shape)).astype(np.int32)


def Boolean(*shape: int) -> Any:
    return lambda rng, n: rng.integers(0, 2, (n, *shape)).astype(bool)


def Half(*shape: int) -> Any:
    return lambda rng, n: jnp.asarray(rng.standard_normal((n, *shape)), jnp.bfloat16)


def Key() -> Any:
    return lambda rng, n: jax.random.split(jax.random.key(int(rng.integers(1000))), n)


@jax.custom_vjp
def clipped_gradient(x, scale):
    return jnp.sin(x) * scale


clipped_gradient.defvjp(
    lambda x, scale: (jnp.sin(x) * scale, (x, scale)),
    lambda kept, g: (jnp.clip(g * kept[1], -0.1, 0.1), jnp.sum(g)),
)


@jax.custom_jvp
def own_slope(x, k):
    return x * x * k


@own_slope.defjvp
def _(primals, tangents):
    x, k = primals
    return own_slope(x, k), 3.0 * x * tangents[0] * k


def newton(x):
    return lax.while_loop(
        lambda c: (c[1] < 20) & (jnp.abs(c[0] ** 2 - 2) > 1e-3),
        lambda c: ((c[0] + 2 / c[0]) / 2, c[1] + 1),
        (x, 0),
    )


CONSTANT = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)

PROGRAMS: dict[str, Program] = {
    # elementwise
    "arithmetic": Program(lambda x, y: x * y + x / (1 + y * y) - y, (F(2, 3), F(2, 3)), exact=False),
    "transcendental": Program(
        lambda x: jnp.exp(x) + jnp.sin(x) * jnp.tanh(x) + jax.nn.sigmoid(x), (F(3),), exact=False
    ),
    "logs and roots": Program(
        lambda x: jnp.log(x) + jnp.sqrt(x) + lax.rsqrt(x) + jnp.cbrt(x) + jnp.log1p(x), (Positive(3),), exact=False
    ),
    "powers": Program(lambda x: x**3 + x**-2 + x**0.5 + jnp.square(x), (Positive(3),), exact=False),
    "power of arrays": Program(lambda x, y: x**y, (Positive(2), F(2)), exact=False),
    "special functions": Program(
        lambda x: lax.erf(x) + lax.erfc(x) + lax.erf_inv(x) + jnp.arcsin(x) + jnp.expm1(x), (Unit(3),), exact=False
    ),
    "gamma": Program(lambda x: lax.lgamma(x) + lax.digamma(x), (Positive(3),), exact=False),
    "rounding": Program(
        lambda x: jnp.floor(x) + jnp.ceil(2 * x) + jnp.round(x * 3) + jnp.sign(x), (F(4),), smooth=False
    ),
    "comparisons": Program(lambda x, y: ((x < y) | (x == y)) & ~(x >= y), (F(4), F(4)), smooth=False),
    "integers": Program(lambda i, j: (i * j + 3) // 2 % 5 + (i << 1) ^ j, (Integer(4), Integer(4)), smooth=False),
    "conversions": Program(
        lambda x, i: (x * 10).astype(jnp.int32) + i.astype(jnp.uint8).astype(jnp.int32),
        (F(3), Integer(3)),
        smooth=False,
    ),
    "powers of a number": Program(
        lambda i, j, k: (0.999**i, 1.5**j, 3.0 ** k.astype(jnp.uint8), 1.0**i, 0.0 ** jnp.abs(j)),
        (Integer(6, low=-40, high=3000), Integer(6), Integer(3, low=0, high=20)),
        exact=False,
        smooth=False,
    ),
    "powers of numbers": Program(
        lambda i: np.array([0.5, 2.0, 0.9], np.float32) ** i,
        (Integer(3, low=0, high=100),),
        exact=False,
        smooth=False,
    ),
    "bits": Program(lambda x: lax.bitcast_convert_type(x, jnp.uint32) >> 3, (F(3),), smooth=False),
    "clip": Program(lambda x: jnp.clip(x, -0.5, 0.5) + jax.nn.relu6(x), (F(5),)),
    "clamp by scalars": Program(lambda x, low: lax.clamp(low, x, jnp.float32(2)), (F(5), F()), smooth=False),
    "where": Program(lambda c, x, y: jnp.where(c, x, y), (Boolean(3), F(3), F(3))),
    "select by one": Program(lambda c, x, y: lax.select(c, x, y), (Boolean(), F(3), F(3))),
    "choose": Program(lambda i, x, y, z: lax.select_n(i % 3, x, y, z), (Integer(3, low=0), F(3), F(3), F(3))),
    "bfloat16": Program(lambda x, y: (x * y + x).sum() + jnp.dot(x, y), (Half(4), Half(4)), exact=False),
    "complex": Program(lambda x, y: jnp.abs(lax.complex(x, y) * lax.complex(y, x)), (F(3), F(3)), exact=False),
    "constants": Program(lambda x: x * 1.0 + 0.0 * x + (x - 0.0) / 1.0 + jnp.arange(3) * 2, (F(3),)),
    "nan and inf": Program(
        lambda x: jnp.where(x > 0, jnp.inf, -x) * 0.0 + jnp.nan_to_num(jnp.log(x)), (F(4),), smooth=False
    ),
    # structure
    "reshape and transpose": Program(lambda x: x.reshape(3, 4).T.reshape(2, 6) * 2, (F(2, 2, 3),)),
    "swap axes": Program(lambda x: jnp.transpose(x, (2, 0, 1))[..., ::-1], (F(2, 3, 2),)),
    "slices": Program(lambda x: x[1:, ::2] - x[:-1, 1::2], (F(3, 4),)),
    "concatenate": Program(lambda x, y: jnp.concatenate([x, y, jnp.ones((1, 2))]), (F(2, 2), F(3, 2))),
    "stack and flip": Program(lambda x, y: jnp.flip(jnp.stack([x, y, x + y], 1), 0), (F(3), F(3))),
    "stack, unstack and tile": Program(
        lambda x, y: jnp.stack([*jnp.unstack(x, axis=1), lax.tile(y, (2,))], 1), (F(4, 2), F(2))
    ),
    "pad": Program(lambda x: lax.pad(x, 1.5, ((1, 2, 1), (-1, 1, 0))), (F(3, 3),)),
    "pad by a value": Program(lambda x, y: lax.pad(x, y, ((1, 0, 0),)), (F(3), F())),
    "broadcast": Program(
        lambda x, y: x[:, None] * y[None, :] + jnp.broadcast_to(x[:, None], (3, 2)), (F(3), F(2)), exact=False
    ),
    "split": Program(lambda x: [a * 2 for a in jnp.split(x, [1, 3])], (F(4),)),
    "iota": Program(lambda x: x + lax.broadcasted_iota(jnp.float32, (2, 3), 1), (F(2, 3),)),
    "tile and roll": Program(lambda x: jnp.roll(jnp.tile(x, 2), 1) + jnp.repeat(x, 2), (F(3),)),
    "diagonal": Program(lambda x: jnp.diag(x) + jnp.tril(x) + jnp.eye(3), (F(3, 3),)),
    "empty": Program(lambda x: (x[:0], jnp.sum(x[:0]), jnp.concatenate([x[:0], x])), (F(3),)),
    "scalars": Program(lambda x, y: x + 2 * y, (F(), F()), exact=False),
    "nothing done": Program(lambda x, y: {"a": x, "b": (y, x)}, (F(2, 2), Integer(3)), smooth=False),
    "Python numbers out": Program(lambda x: (x, 1.5, 2, True, jnp.zeros(2)), (F(2),), smooth=False),
    # indexing
    "fixed index": Program(lambda x: x[1, 2] * x[-1], (F(3, 3),)),
    "fixed indices": Program(lambda x: x[np.array([2, 0, 2]), np.array([1, 1, 0])], (F(3, 2),)),
    "take": Program(lambda x: jnp.take(x, np.array([[0, 2], [1, 1]]), axis=1), (F(2, 3),)),
    "indexed by a member": Program(lambda x, i: x[i], (F(4, 2), Integer(low=-4, high=4))),
    "indexed by members": Program(lambda x, i: x[i] + x[::-1][i], (F(4, 2), Integer(3, low=0, high=4))),
    "dynamic slice": Program(lambda x, i: lax.dynamic_slice(x, (i, 0), (2, 2)), (F(4, 3), Integer(low=0, high=4))),
    "dynamic update": Program(
        lambda x, y, i: lax.dynamic_update_slice(x, y, (i,)), (F(5), F(2), Integer(low=0, high=5))
    ),
    "set": Program(lambda x: x.at[1].set(2.0).at[0, 1].set(x[1, 1]), (F(2, 3),)),
    "scatter-add": Program(lambda x, y: x.at[np.array([0, 2, 0])].add(y), (F(3), F(3)), exact=False),
    "scatter by a member": Program(lambda x, i: x.at[i].multiply(3.0), (F(4), Integer(low=0, high=4))),
    # products and reductions
    "matmul": Program(lambda x, y: x @ y, (F(4, 3), F(3, 2)), exact=False),
    "matrix and vector": Program(lambda x, y: x @ y + y @ x, (F(3, 3), F(3)), exact=False),
    "constant matmul": Program(lambda w: (CONSTANT @ w).T @ CONSTANT @ w, (F(2, 2),), exact=False),
    "batched einsum": Program(
        lambda x, y: jnp.einsum("bij,bkj->ibk", x, y), (F(2, 3, 4), F(2, 2, 4)), exact=False
    ),
    "outer and full contraction": Program(
        lambda x, y: (jnp.outer(x, x).sum(), jnp.tensordot(x, y, 1), jnp.vdot(y, y)), (F(3), F(3)), exact=False
    ),
    "integer matmul": Program(lambda x, y: x @ y, (Integer(2, 3), Integer(3, 2)), smooth=False),
    "half to single": Program(
        lambda x, y: lax.dot(x, y, preferred_element_type=jnp.float32), (Half(2, 3), Half(3, 2)), exact=False
    ),
    "sums": Program(lambda x: x.sum(0) + x.sum() + x.mean(1, keepdims=True).squeeze(), (F(3, 3),), exact=False),
    "product, least, largest": Program(lambda x: (x.prod(1), x.min(), x.max(0)), (F(3, 3),), exact=False),
    "any and all": Program(
        lambda x: (jnp.any(x, 0), jnp.all(x), jnp.bitwise_xor.reduce(x.astype(jnp.int32))),
        (Boolean(3, 2),),
        smooth=False,
    ),
    "which is largest": Program(
        lambda x: (jnp.argmax(x, 1), jnp.argmin(x)), (Integer(3, 4, low=0, high=3),), smooth=False
    ),
    "which is nan": Program(lambda x: (jnp.argmax(jnp.log(x)), jnp.argmin(jnp.log(x))), (F(6),), smooth=False),
    "cumulative": Program(
        lambda x: jnp.cumsum(x, 0) + jnp.cumprod(x, 1) + lax.cummax(x, 0, reverse=True) + lax.cummin(x, 1),
        (F(3, 3),),
        exact=False,
    ),
    "cumulative logsumexp": Program(lambda x: lax.cumlogsumexp(x), (F(4),), exact=False),
    "softmax cross-entropy": Program(
        lambda x, y: -jnp.sum(jax.nn.softmax(y) * jax.nn.log_softmax(x)), (F(4), F(4)), exact=False
    ),
    "layer norm": Program(
        lambda x: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5),
        (F(3, 4),),
        exact=False,
    ),
    "general reduce": Program(
        lambda x: lax.reduce(x, np.float32(0), lambda a, b: a + 2 * b, (0,)), (F(1, 3),), smooth=False
    ),
    "convolution": Program(
        lambda x, k: lax.conv_general_dilated(x, k, (2, 1), "SAME"), (F(1, 2, 4, 4), F(3, 2, 3, 2)), exact=False
    ),
    "grouped convolution": Program(
        lambda x, k: lax.conv_general_dilated(
            x, k, (1,), ((1, 2),), lhs_dilation=(2,), rhs_dilation=(2,), feature_group_count=2
        ),
        (F(2, 4, 4), F(4, 2, 2)),
        exact=False,
    ),
    "pooling": Program(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "VALID"), (F(3, 3),)),
    "sort": Program(lambda x: jnp.sort(x, 0), (F(5, 2),)),
    "sort pairs": Program(
        lambda i, x: lax.sort((i, x), num_keys=1), (Integer(6, low=0, high=3), F(6)), smooth=False
    ),
    "order with nan": Program(lambda x: (jnp.argsort(jnp.log(x)), jnp.median(x)), (F(5),), smooth=False),
    "top k": Program(lambda x: lax.top_k(x, 2)[0], (F(5),)),
    # control flow
    "scan": Program(
        lambda x, xs: lax.scan(lambda c, y: (c * 0.9 + y, (c, y * 2)), x, xs), (F(2), F(5, 2)), exact=False
    ),
    "scan backwards": Program(
        lambda x, xs: lax.scan(lambda c, y: (c + jnp.sin(y), c[0]), x, xs, reverse=True, unroll=2),
        (F(2), F(5, 2)),
        exact=False,
    ),
    "scan over constants": Program(
        lambda w: lax.scan(lambda c, y: (jnp.tanh(w @ c + y), None), jnp.zeros(2), CONSTANT),
        (F(2, 2),),
        exact=False,
    ),
    "scan without carry": Program(lambda x: lax.map(lambda y: (y.sum(), y), x), (F(3, 2),), exact=False),
    "fori, static": Program(lambda x: lax.fori_loop(0, 4, lambda i, c: c * 0.5 + i, x), (F(2),), exact=False),
    "fori, by a member": Program(
        lambda x, n: lax.fori_loop(0, n, lambda i, c: c * 0.5 + i, x),
        (F(2), Integer(low=0, high=5)),
        exact=False,
        smooth=False,
    ),
    "while": Program(newton, (Positive(),), exact=False, smooth=False),
    "cond": Program(
        lambda x, y: lax.cond(x[0] > 0, lambda: jnp.sin(y), lambda: y * x[1]), (F(2), F(2)), exact=False
    ),
    "switch": Program(
        lambda i, x: lax.switch(i, [jnp.sin, jnp.cos, lambda x: x * 2], x),
        (Integer(low=-1, high=4), F(2)),
        exact=False,
    ),
    "switch, fixed": Program(lambda x: lax.switch(jnp.int32(1), [jnp.sin, lambda x: x * 2], x), (F(2),)),
    # of which nothing, or only constants, is left after simplification
    "constant loop": Program(
        lambda x, n: lax.fori_loop(0, n, lambda i, c: jnp.ones(2), jnp.ones(2)),
        (F(2), Integer(low=0, high=5)),
        smooth=False,
    ),
    "constant loop among others": Program(
        lambda x: lax.fori_loop(0, 3, lambda i, c: (jnp.ones(2), c[1] * 2), (jnp.ones(2), x)), (F(2),)
    ),
    "loop over nothing": Program(
        lambda x, e: lax.fori_loop(0, 3, lambda i, c: (c[0], c[1] + 1), (e, x)), (F(2), F(0, 3))
    ),
    "loop for nothing": Program(
        lambda x: (x[0], lax.fori_loop(0, 3, lambda i, c: c * 2, x).astype(jnp.int32) * 0), (F(2),)
    ),
    "nested": Program(
        lambda x: lax.scan(
            lambda c, _: (
                lax.cond(c.sum() > 0, lambda c: c - 1, lambda c: lax.fori_loop(0, 2, lambda i, d: d + 0.5, c), c),
                None,
            ),
            x,
            length=4,
        )[0],
        (F(2),),
        exact=False,
    ),
    "jit": Program(lambda x: jax.jit(lambda y: y @ y)(x) + jax.jit(jnp.sin)(x), (F(2, 2),), exact=False),
    "gradient of a checkpointed scan": Program(  # a closed call, which JAX makes only here
        lambda w, xs: jax.grad(
            jax.checkpoint(lambda w: lax.scan(lambda c, x: (jnp.sin(c * w + x), c * x), w, xs)[0])
        )(w),
        (F(), F(3)),
        exact=False,
    ),
    "checkpoint": Program(
        lambda x, w: jax.checkpoint(lambda w: jnp.tanh(w @ x).sum())(w), (F(2), F(2, 2)), exact=False
    ),
    "named for a checkpoint": Program(lambda x: checkpoint_name(x * 2, "doubled") + x, (F(3),), exact=False),
    "own derivative, forward": Program(
        lambda x, i: own_slope(x, i.astype(jnp.float32)) + jax.nn.relu(x) + jax.nn.silu(x),
        (F(3), Integer(3)),
        exact=False,
    ),
    "own derivative, backward": Program(lambda x, s: clipped_gradient(x, s), (F(3), F()), exact=False),
    "gradient stopped": Program(lambda x: x * lax.stop_gradient(x * x), (F(3),)),
    "gradient within": Program(
        lambda w: jax.grad(lambda w: jnp.sum(jnp.tanh(CONSTANT @ w) ** 2))(w), (F(2, 2),), exact=False
    ),
    "hessian within": Program(
        lambda w: jax.hessian(lambda w: jnp.sum(jnp.tanh(CONSTANT @ w)))(w), (F(2),), exact=False
    ),
    "vmap within": Program(lambda w: jax.vmap(lambda row: jnp.sin(row @ w))(CONSTANT), (F(2, 2),), exact=False),
    # done as it is
    "random": Program(lambda k, x: jax.random.normal(k, (2, 2)) * x, (Key(), F()), exact=False),
    "random, split": Program(
        lambda k, x: x + jax.random.uniform(jax.random.split(k, 3)[1], (2,)), (Key(), F(2)), exact=False
    ),
    "shuffle": Program(lambda k, x: jax.random.permutation(k, 5)[:3] + x, (Key(), F(3))),
    "key out": Program(lambda k: (jax.random.fold_in(k, 3), jax.random.split(k)), (Key(),), smooth=False),
    "dropout": Program(lambda k, x: jnp.where(jax.random.bernoulli(k, 0.5, x.shape), x / 0.5, 0), (Key(), F(4))),
    "linear algebra": Program(
        lambda a, b: jnp.linalg.solve(a @ a.T + jnp.eye(3), b), (F(3, 3), F(3)), exact=False
    ),
    "cholesky": Program(lambda a: jnp.linalg.cholesky(a @ a.T + jnp.eye(2)), (F(2, 2),), exact=False),
    "fft": Program(lambda x: jnp.abs(jnp.fft.fft(x)), (F(4),), exact=False, smooth=False),
    "callback": Program(
        lambda x: jax.pure_callback(
            lambda a: np.asarray(a) * 2, jax.ShapeDtypeStruct((2,), np.float32), x, vmap_method="sequential"
        ),
        (F(2),),
        smooth=False,
    ),
    "large array": Program(lambda x, y: (jnp.ones((70, 70)) * x).sum() * 1e-3 + y, (F(), F(2)), exact=False),
    "bytes": Program(
        lambda x: lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint8), jnp.float32),
        (F(2),),
        smooth=False,
    ),
    "index of another dtype": Program(
        lambda x: lax.dynamic_update_index_in_dim(x, lax.dynamic_index_in_dim(x, jnp.uint8(1)), jnp.uint8(2), 0),
        (F(3),),
    ),
    "products of products in a loop": Program(
        lambda x: lax.fori_loop(
            0, 1, lambda _, x: (lambda a: jnp.matmul(a + jnp.matmul(2.0 * a, a), x))(x @ x.mT), x
        ),
        (Unit(1, 2, 2),),
        exact=False,
    ),
    "products as what a loop carries": Program(
        lambda x: lax.fori_loop(0, 3, lambda _, x: x @ x, x), (Unit(6, 6),), exact=False
    ),
    "barrier": Program(lambda x: sum(lax.optimization_barrier((x, x * 2, np.float32(3)))), (F(2),), exact=False),
}
