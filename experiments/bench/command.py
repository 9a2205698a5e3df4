"""The command `bench`: what can be measured, each by a module of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from experiments.bench.accuracy import bench_accuracy
from experiments.bench.memory import bench_memory
from experiments.bench.scaling import bench_scaling
from experiments.bench.sweep import bench_sweep
from experiments.bench.train import bench_train
from experiments.bench.update import bench_update


@dataclass(frozen=True)
class Bench:
    """Measure speed, and print one JSON object a line, ours first.

    train: images per second of training the tutorial's CNN (8,192 random 32x32x3
    float32 images, batch 64, learning rate 0.01, momentum 0.9, shuffling included), and
    what the machine's matrix products would allow at the 25.7 MFLOP that an image
    takes; then of 2 and 4 times the images, and batches of 32 to 1024. Medians of three
    epochs.

    update: GB/s of momentum SGD alone, at 20 bytes a float32 parameter, of 1 leaf of
    50M, 200 of 512x512 and 1000 of 64x64: medians of 9 turns. The gradients are there,
    packed where the parameters are. Beside it, what the machine can do: a += b.

    sweep: images per second of 1 to 16 runs trained together, as one program, and of as
    many one after another: of the tutorial's CNN, and of a small MLP on 8x8 pixels.
    Medians of three turns.

    memory: bytes a parameter that the compiled update needs: the state, temporaries
    (also of a training step), and the share of params and state that it overwrites.

    accuracy: seconds to the validation accuracy with which the tutorial's Keras run on
    CIFAR-10 ends, compilation included, with a learning rate and beta that a sweep on
    validation data found. Needs --peers, and takes about ten minutes.

    scaling: images per second of the CNN on 1, 2, 4, ... of the devices, with 64 images
    a step in all (strong) and on each (weak), the momentum whole and divided; what an
    exchange takes; and a model of ResNet-50 on up to 1,024 devices. CPUs are as many
    devices as JAX_NUM_CPU_DEVICES says.
    """

    what: tyro.conf.Positional[
        Literal["train", "update", "sweep", "memory", "accuracy", "scaling"]
    ]
    """What to measure."""

    peers: Path | None = None
    """Python interpreter of an environment that has
    TensorFlow, Keras and PyTorch: they are then measured
    too, in turn with ours."""

    data_dir: Path | None = None
    """Of accuracy: directory where tensorflow-datasets has
    prepared CIFAR-10; without it, TFDS_DATA_DIR or else
    ~/tensorflow_datasets."""


def bench(options: Bench) -> None:
    """Measures, prints JSON lines to stdout and a table to stderr.

    Raises:
      UsageError: the peers' interpreter is missing or lacks their libraries.
    """
    match options.what:
        case "train":
            bench_train(options.peers)
        case "update":
            bench_update(options.peers)
        case "sweep":
            bench_sweep(options.peers)
        case "memory":
            bench_memory()
        case "accuracy":
            bench_accuracy(options.peers, options.data_dir)
        case "scaling":
            bench_scaling()
