"""JSON values to fuzz with: any of them, in any place of another one."""

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


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where a JSON value holds values, itself included."""
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    return [path, *(p for key, each in inside for p in places(each, (*path, key)))]


def replaced(value: Any, path: tuple, by: Any) -> Any:
    """The JSON value with another one at a place."""
    if not path:
        return by
    first, *rest = path
    copy = value.copy()
    copy[first] = replaced(value[first], tuple(rest), by)
    return copy
