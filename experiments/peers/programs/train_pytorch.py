"""PyTorch in `bench`: trains one epoch for every line read and prints its seconds.

Run by `python -m experiments bench train --peers PYTHON`, in PYTHON's environment, and
by `bench sweep`, which also passes the name of the network.
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
NETWORKS = {"cnn": (CNN, (3, 32, 32)), "mlp": (MLP, (1, 8, 8))}


def main(images: int, network: str = "cnn") -> None:
    rng = np.random.default_rng(0)
    model, shape = NETWORKS[network]
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
