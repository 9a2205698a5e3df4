"""PyTorch in `bench speedrun`: takes one step for every line read, prints its seconds.

Run by `python -m experiments bench speedrun --peers PYTHON`, in PYTHON's environment.
Network, batch and optimizer are those of `recipe_pytorch.py`; the images are random and
neither moved nor mirrored.
"""

import sys
import time

import torch
from recipe_pytorch import Network, optimizer_of
from torch import nn


def main(batch: int) -> None:
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    model = Network(images).to(memory_format=torch.channels_last)
    loss, optimizer = nn.CrossEntropyLoss(label_smoothing=0.2), optimizer_of(model)

    print(f"PyTorch {torch.__version__}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss(model(images), labels).backward()
        optimizer.step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
