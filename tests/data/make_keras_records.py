"""Makes the Keras files of this folder that README.md ascribes to it.

KERAS_BACKEND=jax python make_keras_records.py

Needs Keras 3 (`pip install keras jax h5py`), which nothing else here does.
"""

import copy
import json
from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent
X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([[0], [1], [1], [0]], np.float32)


def record(name: str, seed: int, optimizer: dict, batch_size: int, epochs: int, every: int) -> None:
    keras.utils.set_random_seed(seed)
    hidden, output = (keras.layers.Dense(units, activation="sigmoid") for units in (2, 1))
    model = keras.Sequential([keras.Input((2,)), hidden, output])
    model.compile(keras.optimizers.get(copy.deepcopy(optimizer)), "mean_squared_error", metrics=["accuracy"])
    initial = [w.tolist() for w in model.get_weights()]
    fit = model.fit(X, Y, batch_size, epochs, shuffle=False, verbose=0)
    made = {
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "seed": seed,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "hidden_activation": "sigmoid",
        "epochs": epochs,
        "initial_weights": initial,
        "final_weights": [w.tolist() for w in model.get_weights()],
        "history": {
            "epoch": list(range(0, epochs, every)),
            "loss": fit.history["loss"][::every],
            "accuracy": fit.history["accuracy"][::every],
        },
        "final_evaluate": model.evaluate(X, Y, batch_size=4, verbose=0),
        "predict": model.predict(X, verbose=0).tolist(),
    }
    (HERE / f"{name}.json").write_text(json.dumps(made))


def saved_models() -> None:
    """Thirteen layers, since `dense_10` sorts before `dense_2`, in both formats that Keras saves."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((2,))])
    for units in (2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 1):
        model.add(keras.layers.Dense(units, activation="tanh", bias_initializer="normal"))
    model.save(HERE / "deep.keras")
    model.save_weights(HERE / "deep.weights.h5")
    weights = [w.tolist() for w in model.get_weights()]
    (HERE / "deep.json").write_text(json.dumps(weights))


if __name__ == "__main__":
    sgd = {"class_name": "SGD", "config": {"learning_rate": 0.5}}
    adam = {"class_name": "Adam", "config": {"learning_rate": 0.01}}
    record("s5_batch3", 5, sgd, batch_size=3, epochs=2000, every=40)
    record("s6_batch1", 6, sgd, batch_size=1, epochs=1000, every=20)
    record("s8_adam", 8, adam, batch_size=4, epochs=1000, every=20)
    saved_models()
