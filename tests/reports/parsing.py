"""An HTML page of a report as a browser parses it."""

import json
import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

#: The elements in a page that have no end.
VOID = {"meta", "wbr"}


@dataclass
class Element:
    """An element as a browser parses it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Parsed(HTMLParser):
    """A page as a browser parses it."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str, css: str = "") -> list[Element]:
        return [
            element
            for element in self.elements
            if element.tag == tag and css in ["", *(element.attributes.get("class") or "").split()]
        ]

    def one(self, tag: str) -> Element:
        (element,) = self.all(tag)
        return element


def packed(browser: Parsed) -> list[list[Any]]:
    """The rows that the page's script unpacks."""
    (blocks,) = [one for one in browser.all("script") if one.attributes.get("id") == "blocks"]
    return [row for block in blocks.text.split() for row in json.loads(zlib.decompress(b64decode(block)))]


def parsed(text: str) -> Parsed:
    browser = Parsed()
    browser.feed(text)
    browser.close()
    assert browser.open == []
    return browser
