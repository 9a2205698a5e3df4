"""The templates of the pages: whatever is put into one shows as the text that it is."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent / "templates"
# Characters that nobody sees, or that turn the text after them round.
_CONTROLS = [*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0)]
_TURNS = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SPELLED_OUT = {code: f"\\u{code:04x}" for code in _CONTROLS + _TURNS}


def render(
    template: str,
    values: Mapping[str, Any],
    *,
    folder: Path = _HERE,
    **filters: Callable,
) -> str:
    """A page: in HTML values are escaped, and what can't be seen is spelled out.

    So are surrogates, as file names have where they aren't UTF-8: the page has none.

    Args:
      template: a file of the folder.
      values: by the template's names.
      folder: its templates may include those of `reporting`.
      **filters: the template's own; one that returns `Markup` is not escaped.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, _HERE]),
        autoescape=template.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    page = environment.get_template(template).render(values).translate(_SPELLED_OUT)
    return page.encode(errors="backslashreplace").decode()


def script() -> dict[str, str]:
    """The script of the pages, and its digest, which lets no other one run."""
    source = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return {"script": Markup(source), "script_digest": digest}
