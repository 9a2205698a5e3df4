"""Renders the templates of pages; every value is shown as plain text."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
# Characters that are invisible, or that reverse the direction of the text after them.
_CONTROLS = [*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0)]
_DIRECTIONS = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SPELLED_OUT = {code: f"\\u{code:04x}" for code in _CONTROLS + _DIRECTIONS}


def render(
    template: str,
    values: Mapping[str, object],
    *,
    folder: Path = _TEMPLATES,
    **filters: Callable,
) -> str:
    """Renders a page: HTML is escaped, and invisible characters are spelled out.

    So are surrogates, which file names have if they aren't UTF-8. The template may
    include those of `templates/`. A filter that returns `Markup` is not escaped.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, _TEMPLATES]),
        autoescape=template.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    page = environment.get_template(template).render(values).translate(_SPELLED_OUT)
    return page.encode(errors="backslashreplace").decode()


def script() -> dict[str, str]:
    """The script of all pages, and its digest, by which a page lets no other run."""
    source = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return {"script": Markup(source), "script_digest": digest}


def picture_path(figure: str) -> Path:
    """Where the picture of a figure lies in the directory of its page."""
    return Path("figures") / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', figure)}.png"
