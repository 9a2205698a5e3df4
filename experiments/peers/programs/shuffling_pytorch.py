"""PyTorch in `bench shuffling`: trains the tutorial's momentum run for every line read.

Run by `python -m experiments bench shuffling --peers PYTHON`, in PYTHON's environment.
"""

import json
import sys

import numpy as np
import torch
from torch import nn
from train_pytorch import BATCH_SIZE, CNN


def reset(model: nn.Module) -> None:
    """Draws the parameters as Keras does: Glorot's uniform kernels and zero biases."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    pairs = zip(images.split(500), labels.split(500), strict=True)
    return sum((model(x).argmax(1) == y).sum().item() for x, y in pairs) / len(labels)


def main(path: str, epochs: int) -> None:
    arrays = np.load(path)

    def examples(name):
        images = torch.from_numpy(arrays[f"{name}_images"]).permute(0, 3, 1, 2)
        images = images.float().div(255).contiguous(memory_format=torch.channels_last)
        return images, torch.from_numpy(arrays[f"{name}_labels"]).long()

    (images, labels), validation, test = map(examples, ("train", "validation", "test"))
    model = CNN.to(memory_format=torch.channels_last)
    cross_entropy = nn.CrossEntropyLoss()
    print(f"PyTorch {torch.__version__}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        torch.manual_seed(request["seed"])
        reset(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        order, curve = torch.randperm(len(labels)), []
        for _ in range(epochs):
            for batch in order.split(BATCH_SIZE):
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
            curve.append(accuracy(model, *validation))
            if not request["repeats"]:
                order = torch.randperm(len(labels))
        answer = {"test_accuracy": accuracy(model, *test), "validation_accuracy": curve}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
