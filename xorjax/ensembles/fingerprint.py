"""The fingerprint of a trainer, to compare between processes and days: its jaxpr, and the arrays in it."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from xorjax.ensembles.members import Members
from xorjax.lanes.jaxprs import open_jaxpr, sub_jaxprs
from xorjax.training.trainer import Trainer


class Fingerprint(NamedTuple):
    """A program as text, and a digest (SHA-256) of the text and of the arrays that the program closes over."""

    text: str
    digest: str


def fingerprint(trainer: Trainer, members: Members) -> Fingerprint:
    """Return the fingerprint of `trainer.run` for such members: equal for the same program on the same data."""
    _, hparams = members[:1]
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), hparams)
    closed = jax.make_jaxpr(trainer.run)(jax.eval_shape(jax.random.key, 0), first)
    text = re.sub("0x[0-9a-f]+", "", closed.pretty_print(use_color=False))  # str has colours in a notebook
    digest = hashlib.sha256(text.encode())
    for array in _constants(closed):
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return Fingerprint(text, digest.hexdigest())


def _constants(jaxpr: Any) -> Iterator[np.ndarray]:
    """Yield the arrays that a jaxpr and its inner jaxprs close over."""
    inner, consts = open_jaxpr(jaxpr)
    for leaf in consts:
        is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        yield np.ascontiguousarray(jax.random.key_data(leaf) if is_key else leaf)
    for eqn in inner.eqns:
        for invar in eqn.invars:
            if isinstance(invar, Literal) and np.ndim(invar.val):  # its text has scalars alone
                yield np.ascontiguousarray(invar.val)
        for body in sub_jaxprs(eqn):
            yield from _constants(body)
