"""JSON values for fuzzing, and their replacement at any path in another value."""

from typing import Any

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, 1e400, 1e308, -0.0])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)


def paths(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of a JSON value and of all values in it."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    return [path, *(p for key, item in items for p in paths(item, (*path, key)))]


def replaced(value: Any, path: tuple, by: Any) -> Any:
    """A copy of a JSON value with another value at a path."""
    if not path:
        return by
    first, *rest = path
    copy = value.copy()
    copy[first] = replaced(value[first], tuple(rest), by)
    return copy
