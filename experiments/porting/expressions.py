"""Calls as they stand in a program, read without running anything."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.records.config import UsageError

REQUIRED = object()  # stands for the default of an argument that has none
_NESTING = 50  # more than a program has; the parser of Python fails at some hundreds


class Expression(NamedTuple):
    """What is no literal, such as `model.parameters()`: only its text is known."""

    text: str


class Call(NamedTuple):
    """A call of a dotted name, whose arguments are literals, calls or expressions."""

    name: str  # as it was written: "torch.optim.SGD"
    positional: Sequence[Any]
    named: Mapping[str, Any]

    @property
    def function(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]


def read_call(option: str, text: str) -> Call:
    """Reads an expression that is a call.

    Args:
      option: what the user gave it as, for messages.
      text: the expression.

    Raises:
      UsageError: it is no call of a dotted name with plain arguments.
    """
    if max(map(text.count, "([{"), default=0) > _NESTING or len(text) > 10_000:
        raise UsageError(f"{option} is too long for a call of an optimizer.")
    try:
        read = _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(
            f"{option} {text!r} is not an expression of Python: {reason}. Give a call "
            "such as 'torch.optim.SGD(params, lr=0.1, momentum=0.9)'."
        ) from None
    if not isinstance(read, Call):
        raise UsageError(
            f"{option} {text!r} is not a call. Give one such as "
            "'torch.optim.SGD(params, lr=0.1, momentum=0.9)'."
        )
    return read


def bound(call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, with defaults.

    Args:
      call: the call.
      parameters: names in their order, with their defaults or `REQUIRED`.

    Raises:
      UsageError: there are more arguments, or others, than parameters, or one is
        missing.
    """
    if len(call.positional) > len(parameters):
        raise UsageError(f"{call.name} takes fewer positional arguments.")
    given = dict(zip(parameters, call.positional, strict=False))
    for name, value in call.named.items():
        if name not in parameters:
            known = ", ".join(parameters)
            raise UsageError(f"{call.name} has no argument {name}; it has {known}.")
        if name in given:
            raise UsageError(f"{call.name} is given {name} twice.")
        given[name] = value
    found = {**parameters, **given}
    for name, value in found.items():
        if value is REQUIRED:
            raise UsageError(f"{call.name} needs {name}.")
    return found


def number(call: Call, arguments: Mapping[str, Any], name: str) -> float:
    """An argument that must be a literal number.

    Raises:
      UsageError: it is something else.
    """
    value = arguments[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(
            f"{call.name}: {name} is {shown(value)}, and nothing of the expression is "
            "run: write the number itself."
        )
    return value


def switch(call: Call, arguments: Mapping[str, Any], name: str) -> bool:
    """An argument that must be True or False.

    Raises:
      UsageError: it is something else.
    """
    value = arguments[name]
    if not isinstance(value, bool):
        raise UsageError(f"{call.name}: {name} is {shown(value)}: write True or False.")
    return value


def shown(value: Any) -> str:
    """A value as it may stand in a program."""
    if isinstance(value, Expression):
        return value.text
    return f"{value.name}(…)" if isinstance(value, Call) else repr(value)


def _read(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    if isinstance(node, ast.Call) and (name := _dotted(node.func)):
        if any(keyword.arg is None for keyword in node.keywords) or any(
            isinstance(argument, ast.Starred) for argument in node.args
        ):
            return Expression(ast.unparse(node))
        named = {keyword.arg: _read(keyword.value) for keyword in node.keywords}
        return Call(name, [_read(each) for each in node.args], named)  # type: ignore[arg-type]
    if isinstance(node, ast.List | ast.Tuple):
        return [_read(each) for each in node.elts]
    if isinstance(node, ast.Dict) and all(
        isinstance(key, ast.Constant) for key in node.keys
    ):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        return dict(zip(keys, map(_read, node.values), strict=True))
    if isinstance(node, ast.BinOp):  # such as 30 * 391
        left, right = _read(node.left), _read(node.right)
        if isinstance(left, int | float) and isinstance(right, int | float):
            match node.op:
                case ast.Mult():
                    return left * right
                case ast.Div() if right:
                    return left / right
    return Expression(ast.unparse(node))


def _dotted(node: ast.expr) -> str:
    """The name of a function such as torch.optim.SGD; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""
