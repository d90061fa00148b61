"""The Jinja environment of the HTML pages: the report of an audit, and the dashboard.

It escapes every value, and an undefined name is an error. Both pages format numbers and times in the same
way.
"""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from keyhole.reasons import meaning
from keyhole.reports import figures


def environment(package: str, displayed: Callable[[str], str]) -> Environment:
    """Return the environment of a package's folder `templates`.

    `displayed` makes the invisible characters of a text visible. It is applied to every value that is a text
    without markup.
    """

    def finalize(value: object) -> object:
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return displayed(str(value)) if is_text else value

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
    }
    return made
