"""Any network is a `Model(init, apply)`: one of Flax's, or one of Equinox's, trained from 200 seeds.

    python examples/flax_or_equinox_model.py
    python examples/flax_or_equinox_model.py --library equinox

Typical printout, after a few seconds:

    flax: 200 seeds of 2-8-1, 100.0 % solve XOR within 1000 epochs of Adam
    the first to do so: seed 113, after 39 epochs
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import xorjax as xj


def flax_model() -> xj.Model:
    from flax import linen

    network = linen.Sequential([linen.Dense(8), linen.tanh, linen.Dense(1), linen.sigmoid])
    return xj.Model(
        init=lambda key: network.init(key, np.zeros((1, 2))),
        apply=lambda params, x: jnp.asarray(network.apply(params, x)),
    )


def equinox_model() -> xj.Model:
    import equinox

    def make(key):
        return equinox.nn.MLP(2, 1, 8, depth=1, activation=jax.nn.tanh, final_activation=jax.nn.sigmoid, key=key)

    _, static = equinox.partition(make(jax.random.key(0)), equinox.is_array)  # the structure is no parameter
    return xj.Model(
        init=lambda key: equinox.filter(make(key), equinox.is_array),
        apply=lambda params, x: jax.vmap(equinox.combine(params, static))(x),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=("flax", "equinox"), default="flax")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=1000)
    args = parser.parse_args()

    model = {"flax": flax_model, "equinox": equinox_model}[args.library]()
    trainer = xj.trainer(model, xj.xor(), optax.adam(0.03), epochs=args.epochs)
    results = xj.train_ensemble(trainer, range(args.seeds))
    solved = results.solved_epoch >= 0
    print(
        f"{args.library}: {args.seeds} seeds of 2-8-1, {100 * solved.mean():.1f} % solve XOR "
        f"within {args.epochs} epochs of Adam"
    )
    if solved.any():
        first = int(np.argmin(np.where(solved, results.solved_epoch, args.epochs + 1)))
        print(f"the first to do so: seed {first}, after {results.solved_epoch[first]} epochs")


if __name__ == "__main__":
    main()
