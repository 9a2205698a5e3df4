"""Records the 94% recipe in PyTorch: python tests/golden/record_pytorch_speedrun.py

A narrow network takes all steps of a run of 3.1 epochs of four batches, in float64, as
the published program does: SGD with groups, LambdaLR, Lookahead on parameters and
statistics. Jordan 2024, arXiv:2404.00498; KellerJordan/cifar10-airbench,
legacy/airbench94.py.
"""

import math

import numpy as np
import torch
from problem import Setting, save
from torch import nn

WIDTHS, CLASSES, BATCH, SIDE = (8, 12, 16), 4, 32, 12
PER_EPOCH, EPOCHS = 4, 3.1
TOTAL = math.ceil(PER_EPOCH * EPOCHS)
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Group(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding="same", bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding="same", bias=False)
        self.norm2 = norm(outputs)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.gelu(self.norm1(x))
        return nn.functional.gelu(self.norm2(self.conv2(x)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.whitening = nn.Conv2d(3, 24, 2)
        self.whitening.weight.requires_grad = False
        self.groups = nn.ModuleList(map(Group, (24, *WIDTHS[:-1]), WIDTHS))
        self.head = nn.Linear(WIDTHS[-1], CLASSES, bias=False)

    def forward(self, x):
        x = nn.functional.gelu(self.whitening(x))
        for group in self.groups:
            x = group(x)
        return self.head(x.amax((2, 3))) / 9


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad = False
    return layer


def rate(step: int) -> float:
    warmup = int(TOTAL * 0.23)
    if step < warmup:
        return 0.2 * (1 - step / warmup) + step / warmup
    done = (step - warmup) / (TOTAL - warmup)
    return 1 - done + 0.07 * done


def arrays(network: nn.Module) -> dict[str, np.ndarray]:
    state = network.state_dict()
    return {k: v.numpy().copy() for k, v in state.items() if v.dtype == torch.float64}


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(21)
    images = rng.integers(0, 256, (TOTAL, BATCH, 3, SIDE, SIDE)).astype(np.uint8)
    labels = rng.integers(0, CLASSES, (TOTAL, BATCH))
    shape = (1, 3, 1, 1)
    mean, deviation = (np.reshape(x, shape) for x in (MEAN, DEVIATION))
    network = Network().double()
    before = arrays(network)
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    learning_rate, decay = 11.5 / kilostep, 0.0153 * BATCH / kilostep
    of_biases = 64 * learning_rate
    trained = {k: p for k, p in network.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(
        [
            {
                "params": [p for k, p in trained.items() if "norm" in k],
                "lr": of_biases,
                "weight_decay": decay / of_biases,
            },
            {
                "params": [p for k, p in trained.items() if "norm" not in k],
                "lr": learning_rate,
                "weight_decay": decay / learning_rate,
            },
        ],
        momentum=0.85,
        nesterov=True,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none")
    slow = {k: v.clone() for k, v in network.state_dict().items()}
    losses = []
    network.train()
    for step in range(TOTAL):
        network.whitening.bias.requires_grad = step // PER_EPOCH < 3
        x = torch.from_numpy((images[step] / 255 - mean) / deviation)
        loss = loss_of(network(x), torch.from_numpy(labels[step])).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if (step + 1) % 5 == 0:
            share = 0.95**5 * ((step + 1) / TOTAL) ** 3
            for key, value in network.state_dict().items():
                if value.dtype == torch.float64:
                    slow[key].lerp_(value, 1 - share)
                    value.copy_(slow[key])
    fast = arrays(network)
    network.load_state_dict(slow)
    problem = {"images": images, "labels": labels}
    run = {
        "before": before,
        "fast": fast,
        "slow": arrays(network),
        "losses": np.array(losses),
    }
    versions = {"torch": torch.__version__}
    save(
        "pytorch_speedrun",
        problem,
        {"speedrun": Setting({})},
        {"speedrun": run},
        versions,
    )


if __name__ == "__main__":
    main()
