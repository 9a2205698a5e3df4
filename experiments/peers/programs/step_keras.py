"""Keras in `conformance`: steps SGD as the lines that it reads say.

Each line is JSON: `{"options": …, "start": […]}` builds the optimizer and sets the
parameters, `{"gradient": …, "rate": …}` takes one step. Answers with the parameters in
float64, or with the text of the error.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf


def build(options: dict, start: list) -> tuple[keras.Variable, keras.optimizers.SGD]:
    # TensorFlow reads a Python float as float32; a NumPy float64 keeps its digits.
    options = {
        name: np.float64(value) if isinstance(value, float) else value
        for name, value in options.items()
    }
    variable = keras.Variable(np.asarray(start, np.float64), dtype="float64")
    optimizer = keras.optimizers.SGD(np.float64(1.0), **options)
    optimizer.build([variable])
    return variable, optimizer


def main() -> None:
    keras.config.set_floatx("float64")  # also the dtype of the learning rate
    versions = f"{keras.__version__} on TensorFlow {tf.__version__}"
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "options" in request:
                variable, optimizer = build(**request)
            else:
                optimizer.learning_rate = np.float64(request["rate"])
                optimizer.apply([tf.constant(request["gradient"], tf.float64)])
            answer = variable.numpy().tolist()
        except Exception as error:  # `conformance` records which error it is
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
