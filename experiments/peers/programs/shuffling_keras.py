"""Keras in `bench shuffling`: trains the tutorial's momentum run for every line read.

Run by `python -m experiments bench shuffling --peers PYTHON`, in PYTHON's environment.
"""

import json
import sys

from train_keras import BATCH_SIZE, compiled_model, keras, read, versions


def fit(model: keras.Model, train, validation, seed: int, epochs: int, repeats: bool):
    """Validation accuracy after each epoch."""
    options = {"batch_size": BATCH_SIZE, "validation_data": validation, "verbose": 0}
    if repeats:  # what one call does after `set_random_seed`
        return model.fit(*train, epochs=epochs, **options).history["val_accuracy"]
    accuracies = []
    for epoch in range(epochs):  # each call shuffles anew, by this seed
        keras.utils.set_random_seed(1000 * (seed + 1) + epoch)
        accuracies += model.fit(*train, epochs=1, **options).history["val_accuracy"]
    return accuracies


def main(path: str, epochs: int) -> None:
    train, validation, test = read(path)
    print(versions(), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        keras.utils.set_random_seed(request["seed"])
        model = compiled_model()
        curve = fit(
            model, train, validation, request["seed"], epochs, request["repeats"]
        )
        _, accuracy = model.evaluate(*test, verbose=0)
        answer = {"test_accuracy": accuracy, "validation_accuracy": curve}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
