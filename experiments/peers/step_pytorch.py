"""PyTorch's side of `conformance`: takes the steps that it is asked for, one a line.

Reads JSON: `{"options": …, "start": […]}` begins a run, `{"gradient": …, "rate": …}` is
one step; answers each with the parameters, in float64, or with the error as a text.
"""

import json
import sys

import torch


def begin(options: dict, start: list) -> tuple[torch.nn.Parameter, torch.optim.SGD]:
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return parameter, torch.optim.SGD([parameter], lr=1.0, **options)


def main() -> None:
    print(json.dumps(torch.__version__), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "options" in request:
                parameter, optimizer = begin(**request)
            else:
                parameter.grad = torch.tensor(request["gradient"], dtype=torch.float64)
                optimizer.param_groups[0]["lr"] = request["rate"]
                optimizer.step()
            answer = parameter.tolist()
        except Exception as error:  # the conformance run records what is refused
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
