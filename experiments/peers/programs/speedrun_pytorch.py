"""PyTorch in `bench speedrun`: takes one step for every line read, prints its seconds.

Run by `python -m experiments bench speedrun --peers PYTHON`, in PYTHON's environment.
The network of `experiments/networks/whitened.py`, the batch and the optimizer are those
of the recipe; the images are random and neither moved nor mirrored.
"""

import sys
import time

import torch
from torch import nn

WIDTHS = (64, 256, 256)


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad = False
    return layer


def group(inputs: int, outputs: int) -> list:
    options = {"padding": 1, "bias": False}
    return [
        nn.Conv2d(inputs, outputs, 3, **options),
        nn.MaxPool2d(2),
        *(norm(outputs), nn.GELU()),
        nn.Conv2d(outputs, outputs, 3, **options),
        *(norm(outputs), nn.GELU()),
    ]


def main(batch: int) -> None:
    whitening = nn.Conv2d(3, 24, 2)
    whitening.weight.requires_grad = False
    layers, inputs = [whitening, nn.GELU()], 24
    for width in WIDTHS:
        layers += group(inputs, width)
        inputs = width
    head = nn.Linear(inputs, 10, bias=False)
    model = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), head)
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    loss = nn.CrossEntropyLoss(label_smoothing=0.2)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        trained, lr=0.01, momentum=0.85, nesterov=True, weight_decay=1e-3
    )

    print(f"PyTorch {torch.__version__}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss(model(images) / 9, labels).backward()
        optimizer.step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
