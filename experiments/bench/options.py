"""The options of `bench`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True)
class Bench:
    """Measure speed or memory, and print one JSON object a line, ours first.

    train: images per second while training the tutorial's CNN on 8,192 random 32x32x3
    float32 images, with batch size 64, learning rate 0.01 and momentum 0.9, shuffling
    included; and the rate that the machine's matrix products would allow, at 25.7 MFLOP
    an image. Then with 2 and 4 times the images, and with batch sizes from 32 to 1024.
    Medians of three epochs.

    update: GB/s of the momentum SGD update alone, at 20 bytes per float32 parameter,
    for 1 leaf of 50M, 200 of 512x512 and 1000 of 64x64. The gradients exist already,
    and are packed if the parameters are. For comparison, the machine's a += b. Medians
    of 9 turns.

    sweep: images per second of 1 to 16 runs trained together in one program, and of as
    many trained in sequence, for the tutorial's CNN and for a small MLP on 8x8
    pixels. Medians of three turns.

    memory: bytes per parameter that the compiled update needs for the state and for
    temporaries (also in a training step), and how many of params and state it reuses.

    accuracy: seconds, compilation included, until the validation accuracy reaches that
    of the tutorial's finished Keras run on CIFAR-10. A sweep on validation data chooses
    the learning rate and beta. Needs --peers and takes about ten minutes.

    scaling: images per second of the CNN on 1, 2, 4, ... devices, with 64 images in a
    step on all devices together (strong) or on each (weak), and with the momentum whole
    or divided among them; the time of an exchange; and a model of ResNet-50 on up to
    1,024 devices. JAX_NUM_CPU_DEVICES sets the number of CPU devices.

    shuffling: test accuracy of the tutorial's momentum run on CIFAR-10 with a new order
    of images in each epoch and with one order for all, here, in Keras and in PyTorch.
    Needs --peers and takes about an hour.

    speedrun: images per second of a training step of the command speedrun, in batches
    of 1,024; and of the recipe's 0.36 PFLOP as matrix products. Medians of three turns.

    recipe: the test accuracy on CIFAR-10 that the recipe of speedrun reaches here, and
    as its author's program in PyTorch. Needs --peers; the whole recipe takes two hours.
    """

    what: tyro.conf.Positional[
        Literal[
            "train",
            "update",
            "sweep",
            "memory",
            "accuracy",
            "scaling",
            "shuffling",
            "speedrun",
            "recipe",
        ]
    ]
    """What to measure."""

    peers: Path | None = None
    """Python interpreter of an environment that has
    TensorFlow, Keras and PyTorch, which are then measured
    too, in turn with ours."""

    model: str | None = None
    """For train: FILE.py:function of a Flax network, which
    is then measured beside the tutorial's CNN, on 1,024
    images. The peers
    train experiments/networks/resnet.py:resnet20 and
    separable.py:separable too."""

    problem: str | None = None
    """For train: FILE.py:function of a problem, which is
    then measured alone."""

    data_dir: Path | None = None
    """For accuracy, shuffling and recipe: directory in
    which tensorflow-datasets has prepared CIFAR-10; by
    default TFDS_DATA_DIR, or else ~/tensorflow_datasets."""

    epochs: float | None = None
    """For recipe: passes over the training images, over
    which the learning rate rises and falls; 9.9 by
    default."""
