"""PyTorch in `conformance`: steps SGD as the lines that it reads say.

Each line is JSON: `{"options": …, "start": […]}` builds the optimizer and sets the
parameters, `{"gradient": …, "rate": …}` takes one step. Answers with the parameters in
float64, or with the text of the error.
"""

import json
import sys

import torch


def build(options: dict, start: list) -> tuple[torch.nn.Parameter, torch.optim.SGD]:
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return parameter, torch.optim.SGD([parameter], lr=1.0, **options)


def main() -> None:
    print(json.dumps(torch.__version__), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "options" in request:
                parameter, optimizer = build(**request)
            else:
                parameter.grad = torch.tensor(request["gradient"], dtype=torch.float64)
                optimizer.param_groups[0]["lr"] = request["rate"]
                optimizer.step()
            answer = parameter.tolist()
        except Exception as error:  # `conformance` records which error it is
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
