"""Records a narrow ResNet's training run into pytorch_resnet.npz.

python tests/golden/record_pytorch_resnet.py
"""

from typing import Any

import numpy as np
import torch
from problem import Setting, save
from torch import nn

STEPS, BATCH, CHANNELS, SIZE, CLASSES = 20, 6, 3, 8, 4
OPTIONS = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        if stride > 1:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y))
        shortcut = x
        if hasattr(self, "shortcut"):
            shortcut = self.shortcut_norm(self.shortcut(x))
        return (y + shortcut).relu()


class ResNet(nn.Module):
    """A 3×3 stem and two stages of one block, of widths 8 and 16."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(CHANNELS, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList([Block(8, 8, 1), Block(8, 16, 2)])
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem_norm(self.stem(images)).relu()
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=(2, 3)))


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Copies parameters and running statistics, by PyTorch's names."""
    return {
        name: value.numpy().copy()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


if __name__ == "__main__":
    torch.manual_seed(5)
    random = np.random.default_rng(6)
    shape = STEPS, BATCH, CHANNELS, SIZE, SIZE
    images = random.standard_normal(shape).astype(np.float16)  # exact in float64
    labels = random.integers(CLASSES, size=(STEPS, BATCH))
    model = ResNet().double()
    optimizer = torch.optim.SGD(model.parameters(), foreach=False, **OPTIONS)
    before = snapshot(model)
    for batch, classes in zip(images, labels, strict=True):
        optimizer.zero_grad()
        logits = model(torch.tensor(batch.astype(np.float64)))
        nn.functional.cross_entropy(logits, torch.tensor(classes)).backward()
        optimizer.step()
    model.eval()
    evaluated = model(torch.tensor(images[0].astype(np.float64))).detach().numpy()
    runs = {"before": before, "after": snapshot(model), "logits": {"0": evaluated}}
    problem = {"images": images, "labels": labels}
    versions = {"torch": torch.__version__}
    save(
        "pytorch_resnet",
        problem,
        {"resnet": Setting(OPTIONS)},
        {"resnet": runs},
        versions,
    )
