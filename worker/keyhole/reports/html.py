"""The Jinja environment of the HTML pages: the report of an audit, and the dashboard.

It escapes every value, and an undefined name is an error. Both pages format numbers and times in the same
way, and show text between backticks as code.
"""

import re
from collections.abc import Callable
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from keyhole.reasons import meaning
from keyhole.reports import figures

#: A quoted name, in which nothing is code, or text between backticks. A message quotes a name from an image,
#: such as a backing file, as Python's `repr` does.
_QUOTED_OR_CODE: Final = re.compile(
    r"""
      (?<!\w) '(?:\\. | [^'\\])*' (?!\w)
    | (?<!\w) "(?:\\. | [^"\\])*" (?!\w)
    | `(?P<code>[^`]+)`
    """,
    re.VERBOSE,
)


def environment(package: str, displayed: Callable[[str], str]) -> Environment:
    """Return the environment of a package's folder `templates`.

    `displayed` makes the invisible characters of a text visible. It is applied to every value that is a text
    without markup. The filter `with_code` shows text between backticks as code.
    """

    def finalize(value: object) -> object:
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return displayed(str(value)) if is_text else value

    def breakable(code: str) -> Markup:
        """Return a code, such as a reason, that can break into lines only after its underscores."""
        return Markup("_<wbr>").join(escape(word) for word in displayed(code).split("_"))

    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": figures.size,
        "exact": figures.exact,
        "number": figures.number,
        "counted": figures.counted,
        "share": figures.share,
        "moment": figures.moment,
        "meaning": meaning,
        "with_code": lambda text: with_code(displayed(text)),
        "breakable": breakable,
    }
    return made


def with_code(text: str) -> Markup:
    """Return a text as HTML, in which text between backticks is marked as code, and everything is escaped.

    Backticks in a quoted name stay, because they are part of the name.
    """
    parts: list[Markup] = []
    end = 0
    for found in _QUOTED_OR_CODE.finditer(text):
        if found["code"] is not None:
            parts += (escape(text[end : found.start()]), Markup("<code>{}</code>").format(found["code"]))
            end = found.end()
    return Markup("").join([*parts, escape(text[end:])])
