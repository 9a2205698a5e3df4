"""A user's own problem, from FILE.py:function."""

from experiments.problems.check import check_problem
from experiments.problems.problem import Problem
from experiments.user_code import load, usage_errors


def user_problem(option: str, reference: str) -> tuple[Problem, str]:
    """Calls a user's function without arguments and checks the problem it returns.

    Args:
      option: the option that names the function, for messages: "--problem".
      reference: FILE.py:function.

    Returns:
      The problem, and the digest of the code of its file.

    Raises:
      UsageError: there is no such function, or what it returns is no `Problem` that can
        be trained.
    """
    function, digest = load(option, reference)
    with usage_errors(option, reference, "calling it"):
        problem = function()
    with usage_errors(option, reference, "checking its problem"):
        return check_problem(f"{option} {reference}", problem), digest
