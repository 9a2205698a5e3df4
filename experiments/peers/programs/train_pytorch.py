"""PyTorch in `bench`: trains one epoch for every line read and prints its seconds.

Run by `python -m experiments bench train --peers PYTHON`, in PYTHON's environment, and
by `bench sweep`. Both may pass the name of a network.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

BATCH_SIZE = 64

CNN = nn.Sequential(
    *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
    *(nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)),
)
MLP = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def convolution(inputs: int, outputs: int, size=3, stride=1, groups=1) -> list:
    """A convolution without bias, and BatchNorm."""
    options = {"padding": size // 2, "groups": groups, "bias": False}
    return [
        nn.Conv2d(inputs, outputs, size, stride, **options),
        nn.BatchNorm2d(outputs),
    ]


class Block(nn.Module):
    """Of `experiments/networks/resnet.py`."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inputs, outputs, 3, stride),
            nn.ReLU(),
            *convolution(outputs, outputs),
        )
        same = stride == 1 and inputs == outputs
        shortcut = [] if same else convolution(inputs, outputs, 1, stride)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def head(inputs: int) -> list:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]


def resnet20() -> nn.Module:
    layers, inputs = [*convolution(3, 16), nn.ReLU()], 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            layers.append(Block(inputs, width, 2 if stage and not block else 1))
            inputs = width
    return nn.Sequential(*layers, *head(inputs))


def separable() -> nn.Module:
    layers, inputs = [*convolution(3, 32), nn.ReLU()], 32
    for outputs, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        layers += [*convolution(inputs, inputs, 3, stride, inputs), nn.ReLU()]
        layers += [*convolution(inputs, outputs, 1), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, *head(inputs))


NETWORKS = {
    "cnn": (lambda: CNN, (3, 32, 32)),
    "mlp": (lambda: MLP, (1, 8, 8)),
    "resnet20": (resnet20, (3, 32, 32)),
    "separable": (separable, (3, 32, 32)),
}


def main(images: int, network: str = "cnn") -> None:
    rng = np.random.default_rng(0)
    make, shape = NETWORKS[network]
    model = make()
    x = torch.from_numpy(rng.random((images, *shape), dtype=np.float32))
    x = x.contiguous(memory_format=torch.channels_last)  # fastest on a CPU
    y = torch.from_numpy(rng.integers(0, 10, images))
    model = model.to(memory_format=torch.channels_last)
    cross_entropy = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    print(f"PyTorch {torch.__version__}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for batch in torch.randperm(images).split(BATCH_SIZE):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
