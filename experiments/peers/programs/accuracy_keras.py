"""Keras in `bench accuracy`: runs the tutorial's momentum SGD once for every line read.

Run by `python -m experiments bench accuracy --peers PYTHON`, in PYTHON's environment.
"""

import json
import sys
import time

from train_keras import compiled_model, keras, read, versions

EPOCHS = 10


def main(path: str, seed: int) -> None:
    train, validation, test = read(path)
    print(versions(), flush=True)
    for _ in sys.stdin:
        keras.utils.set_random_seed(seed)
        model = compiled_model()
        start = time.perf_counter()
        history = model.fit(
            *train, batch_size=64, epochs=EPOCHS, validation_data=validation, verbose=0
        )
        seconds = time.perf_counter() - start
        _, accuracy = model.evaluate(*test, verbose=0)
        answer = {
            "seed": seed,
            "epochs": EPOCHS,
            "seconds": round(seconds, 1),
            "validation_accuracy": history.history["val_accuracy"][-1],
            "test_accuracy": accuracy,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
