"""PyTorch in `bench update`: times steps of SGD for every line read.

A line names the implementation and the number of steps; the answer is their seconds.

Run by `python -m experiments bench update --peers PYTHON`, in PYTHON's environment.
"""

import sys
import time

import torch


def main(leaves: int, shape: list[int]) -> None:
    optimizers = {}
    for kind in ("fused", "foreach"):
        params = [torch.nn.Parameter(torch.ones(shape)) for _ in range(leaves)]
        for param in params:
            param.grad = torch.full(shape, 0.5)
        optimizers[kind] = torch.optim.SGD(
            params, lr=1e-3, momentum=0.9, **{kind: True}
        )

    print(f"PyTorch {torch.__version__}", flush=True)
    for line in sys.stdin:
        kind, steps = line.split()
        optimizers[kind].step()  # wakes the worker threads
        start = time.perf_counter()
        for _ in range(int(steps)):
            optimizers[kind].step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(leaves=int(sys.argv[1]), shape=[int(size) for size in sys.argv[2:]])
