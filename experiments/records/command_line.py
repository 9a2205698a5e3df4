"""The command line that repeats what was done."""

import shlex


def repeating(command: str, options: object) -> str:
    """`python -m experiments COMMAND` with all options that differ from "unset".

    Args:
      command: its name.
      options: its dataclass; None, False and an empty tuple stand for no option.
    """
    words = ["python", "-m", "experiments", command]
    for name, value in vars(options).items():
        if name == "together":  # how it was run, not what
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)] if value else []
        elif value is not None and value is not False:
            words += [flag, str(value)]
    return shlex.join(words)
