"""Records a CNN's training run into pytorch_cnn.npz, in two parts.

python tests/golden/record_pytorch_cnn.py
"""

from typing import Any

import numpy as np
import torch
from problem import Setting, save

BEFORE, AFTER = 10, 12  # steps
BATCH, CHANNELS, HEIGHT, WIDTH, CLASSES = 5, 2, 6, 10, 7
OPTIONS = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.02}


def make_model() -> torch.nn.Module:
    """Returns a CNN whose shapes don't reveal a wrong layout, so that values must.

    The last layer is square; the one before it gets 4 channels of 3 by 5, flattened.
    """
    return torch.nn.Sequential(
        torch.nn.Conv2d(CHANNELS, 3, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 3 * 5, CLASSES),
        torch.nn.ReLU(),
        torch.nn.Linear(CLASSES, CLASSES),
    ).double()


def snapshot(model: torch.nn.Module, optimizer: torch.optim.SGD) -> dict[str, Any]:
    """Copies the weights, by PyTorch's names, and the buffers, by its indices."""
    state = optimizer.state_dict()["state"]
    return {
        "weights": {k: v.numpy().copy() for k, v in model.state_dict().items()},
        "buffers": {
            str(i): s["momentum_buffer"].numpy().copy() for i, s in state.items()
        },
    }


def record(batches: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains, and returns the snapshots and the optimizer's only parameter group."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), foreach=False, **OPTIONS)
    snapshots = []
    for images, labels in zip(batches["images"], batches["labels"], strict=True):
        snapshots.append(snapshot(model, optimizer))
        optimizer.zero_grad()
        logits = model(torch.tensor(images))
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
        optimizer.step()
    snapshots.append(snapshot(model, optimizer))
    before, *after = snapshots[BEFORE:]
    stacked = {
        kind: {leaf: np.stack([s[kind][leaf] for s in after]) for leaf in before[kind]}
        for kind in before
    }
    [group] = optimizer.state_dict()["param_groups"]
    return {"before": before, "after": stacked}, group


if __name__ == "__main__":
    torch.manual_seed(5)
    random = np.random.default_rng(6)
    steps = BEFORE + AFTER
    images = random.standard_normal((steps, BATCH, CHANNELS, HEIGHT, WIDTH))
    labels = random.integers(CLASSES, size=(steps, BATCH))
    batches = {"images": images, "labels": labels}
    runs, group = record(batches)
    problem = {name: array[BEFORE:] for name, array in batches.items()}
    versions = {"torch": torch.__version__}
    save("pytorch_cnn", problem, {"cnn": Setting(group)}, {"cnn": runs}, versions)
