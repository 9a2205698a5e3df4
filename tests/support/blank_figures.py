"""Pages without drawings, for tests of other things: drawing takes seconds."""

from collections.abc import Callable

from experiments.reporting import drawing


def install(set_attribute: Callable[[object, str, object], None]) -> None:
    """Replaces the drawings in this process, by `setattr` or that of a MonkeyPatch."""
    for name in ("svg", "narrow_svg"):
        set_attribute(drawing, name, lambda figure: "<svg></svg>")
    set_attribute(drawing, "png", lambda figure: b"")
