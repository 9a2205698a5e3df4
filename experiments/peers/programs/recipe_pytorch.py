"""PyTorch in `bench recipe`: trains the recipe of `speedrun` for every line read.

Run by `python -m experiments bench recipe --peers PYTHON`, in PYTHON's environment. A
line is a JSON object with the seed; the answer has the accuracies and the seconds. As
Jordan 2024, arXiv:2404.00498 (KellerJordan/cifar10-airbench, legacy/airbench94.py), but
on a CPU, in float32.
"""

import json
import math
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WIDTHS, BATCH = (64, 256, 256), 1024
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Convolution(nn.Conv2d):
    """Its first filters, one for each input, pass it on."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding="same", bias=False)
        nn.init.dirac_(self.weight.data[: self.weight.size(1)])


class Group(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1, self.norm1 = Convolution(inputs, outputs), norm(outputs)
        self.conv2, self.norm2 = Convolution(outputs, outputs), norm(outputs)

    def forward(self, x):
        x = functional.max_pool2d(self.conv1(x), 2)
        x = functional.gelu(self.norm1(x))
        return functional.gelu(self.norm2(self.conv2(x)))


class Network(nn.Module):
    def __init__(self, images):
        super().__init__()
        self.whitening = nn.Conv2d(3, 24, 2)
        self.whitening.bias.data.zero_()
        self.whitening.weight.requires_grad = False
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5)
        patches = patches.reshape(-1, 12)
        variances, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / torch.sqrt(variances + 5e-4)).T.reshape(12, 3, 2, 2)
        self.whitening.weight.data[:] = torch.cat((filters, -filters))
        self.groups = nn.ModuleList(map(Group, (24, *WIDTHS[:-1]), WIDTHS))
        self.head = nn.Linear(WIDTHS[-1], 10, bias=False)

    def forward(self, x):
        x = functional.gelu(self.whitening(x))
        for group in self.groups:
            x = group(x)
        return self.head(x.amax((2, 3))) / 9


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad = False
    return layer


def normalized(images: np.ndarray):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    return ((x - mean) / deviation).contiguous(memory_format=torch.channels_last)


def cropped(padded):
    """Each image moved by up to 2 pixels."""
    count, side = len(padded), padded.shape[-1] - 4
    out = torch.empty(count, 3, side, side).contiguous(
        memory_format=torch.channels_last
    )
    shifts = torch.randint(0, 5, (count, 2))
    for i in range(5):
        for j in range(5):
            chosen = (shifts[:, 0] == i) & (shifts[:, 1] == j)
            out[chosen] = padded[chosen, :, i : i + side, j : j + side]
    return out


def optimizer_of(model: nn.Module):
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 11.5 / kilostep, 0.0153 * BATCH / kilostep
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    groups = []
    for biases, lr in ((True, 64 * rate), (False, rate)):
        params = [p for k, p in trained.items() if ("norm" in k) == biases]
        groups.append({"params": params, "lr": lr, "weight_decay": decay / lr})
    return torch.optim.SGD(groups, momentum=0.85, nesterov=True)


def accuracy(model: nn.Module, images, labels, multicrop: bool = False) -> float:
    model.eval()

    def mirrored(x):
        return (model(x) + model(x.flip(-1))) / 2

    hits = 0
    with torch.no_grad():
        for x, y in zip(images.split(1000), labels.split(1000), strict=True):
            if multicrop:
                padded = functional.pad(x, (1,) * 4, "reflect")
                moved = mirrored(padded[..., :-2, :-2]) + mirrored(padded[..., 2:, 2:])
                logits = (mirrored(x) + moved / 2) / 2
            else:
                logits = model(x)
            hits += (logits.argmax(1) == y).sum().item()
    return hits / len(labels)


def train(seed: int, data, epochs: float) -> dict:
    train_images, train_labels, test_images, test_labels = data
    torch.manual_seed(seed)
    start = time.perf_counter()
    model = Network(train_images[:5000]).to(memory_format=torch.channels_last)
    per_epoch = len(train_labels) // BATCH
    total = math.ceil(per_epoch * epochs)

    def rate(step: int) -> float:
        warmup = int(total * 0.23)
        if step < warmup:
            return 0.2 + 0.8 * step / warmup
        return 1 - 0.93 * (step - warmup) / (total - warmup)

    optimizer = optimizer_of(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none")
    slow = {k: v.clone() for k, v in model.state_dict().items()}
    flips = torch.rand(len(train_labels)) < 0.5
    flipped = torch.where(flips.view(-1, 1, 1, 1), train_images.flip(-1), train_images)
    padded = functional.pad(flipped, (2,) * 4, "reflect")
    step, accuracies = 0, []
    for epoch in range(math.ceil(epochs)):
        model.train()
        model.whitening.bias.requires_grad = epoch < 3
        images = cropped(padded)
        if epoch % 2:
            images = images.flip(-1)
        order = torch.randperm(len(images))[: per_epoch * BATCH]
        for rows in order.split(BATCH)[: total - step]:
            loss = loss_of(model(images[rows]), train_labels[rows]).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            if step % 5 == 0:
                share = 0.95**5 * (step / total) ** 3
                for key, value in model.state_dict().items():
                    if value.is_floating_point():
                        slow[key].lerp_(value, 1 - share)
                        value.copy_(slow[key])
        if step == total:
            model.load_state_dict(slow)
        accuracies.append(accuracy(model, test_images, test_labels))
    return {
        "test_accuracy": accuracies,
        "multicrop_accuracy": accuracy(model, test_images, test_labels, True),
        "seconds": time.perf_counter() - start,
    }


def main(path: str, epochs: float) -> None:
    arrays = np.load(path)
    data = []
    for split in ("train", "test"):
        labels = torch.from_numpy(arrays[f"{split}_labels"].astype(np.int64))
        data += [normalized(arrays[f"{split}_images"]), labels]
    print(f"PyTorch {torch.__version__}", flush=True)
    for line in sys.stdin:
        seed = json.loads(line)["seed"]
        print(json.dumps(train(seed, data, epochs)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
