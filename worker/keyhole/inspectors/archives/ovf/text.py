"""The text of an OVF descriptor: which encoding its bytes are in.

Source: XML 1.0, section 4.3.3 and appendix F; WHATWG, "Encoding", for what readers take names such as
`gb2312` to mean.

| the bytes begin with | they are read as |
|---|---|
| a byte order mark | what the mark says, whatever is declared; libxml2 does so too |
| `<` and zeros, or zeros and `<` | UTF-16 or UTF-32 without a mark |
| anything else | the declared encoding; UTF-8 if there is none, or one that is not of single bytes |

Encodings that keep ASCII as it is are decoded by Python's codecs. All others are unsupported, among them
those that escape (`iso-2022-jp`, `hz`, `utf-7`): a reader that does not know them sees other markup.
"""

import codecs
import re
from typing import NamedTuple

#: Longest first, for one begins another.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: How a document without a mark begins in encodings of more than a byte.
WIDE = (
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
#: `<?xml` in EBCDIC.
EBCDIC = b"\x4c\x6f\xa7\x94"

#: As much as is searched for the declaration, in characters.
DECLARATION_CHARACTERS = 1024
DECLARED = re.compile(r"""<\?xml\s[^>]*?\sencoding\s*=\s*["']([^"'>]{1,40})["']""")

#: The names of encodings that have no or several byte orders.
FAMILIES = {
    "utf-8": re.compile(r"utf-?8"),
    "utf-16": re.compile(r"(utf-?16|(iso-10646-)?ucs-?2|unicode)(-?[bl]e)?"),
    "utf-32": re.compile(r"(utf-?32|(iso-10646-)?ucs-?4)(-?[bl]e)?"),
}

#: Codecs without a state. Code pages of EBCDIC are recognised because they do not keep ASCII.
STATELESS = re.compile(
    r"ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|tis-620|ptcp154|kz1048|hp-roman8"
    r"|shift_jis(_2004|x0213)?|euc_(jp|kr|jis_2004|jisx0213)|gb(2312|k|18030)|big5(hkscs)?"
)
#: Names that XML knows and Python does not.
ALIASES = {"windows-31j": "cp932", "x-sjis": "shift_jis", "windows-936": "gbk", "windows-949": "cp949"}
#: What readers take in place of the encodings that these names meant first: supersets of them.
SUPERSETS = {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
}
#: The ASCII characters of XML, which an encoding must keep to be read.
MARKUP = bytes([9, 10, 13, *range(0x20, 0x7F)])


class EncodingError(Exception):
    """A text that cannot be decoded; `unsupported` if the text is not at fault."""

    def __init__(self, message: str, *, unsupported: bool) -> None:
        super().__init__(message)
        self.unsupported = unsupported


class Text(NamedTuple):
    """The text of a descriptor.

    `other` is what readers see that go by the declaration where its mark says something else, `None` if that
    is the same; `note` says that mark and declaration differ, which some readers refuse.
    """

    text: str
    other: str | None = None
    note: str | None = None


def decode(raw: bytes) -> Text:
    """Decode a descriptor.

    Raises:
        EncodingError: It is in an encoding that is not supported, or not in the one that it states.
    """
    mark, encoding = next(((mark, name) for mark, name in MARKS if raw.startswith(mark)), (b"", None))
    encoding = encoding or next((name for start, name in WIDE if raw.startswith(start)), None)
    if encoding is None:
        return _by_declaration(raw)
    text = _decoded(raw[len(mark) :], encoding).rstrip("\0")
    if text.startswith("\ufeff"):
        raise EncodingError("it begins with two byte order marks", unsupported=False)
    declared = _declared(text)
    if declared is None or _family(declared) == _family(encoding):
        return Text(text)
    note = f"the OVF says that it is in {declared}, but it begins as {encoding} does"
    return Text(text, _other(raw, text) if encoding == "utf-8" else None, note)


def _by_declaration(raw: bytes) -> Text:
    """Decode a text without a mark in an encoding that contains ASCII."""
    if raw.startswith(EBCDIC):
        raise EncodingError("it is in EBCDIC, which is not supported", unsupported=True)
    declared = _declared(raw[:DECLARATION_CHARACTERS].decode("latin-1"))
    if declared is None:
        return Text(_decoded(raw.rstrip(b"\0"), "utf-8"))
    if _family(declared) in {"utf-16", "utf-32"}:
        note = f"the OVF says that it is in {declared}, but it is not"
        return Text(_decoded(raw.rstrip(b"\0"), "utf-8"), note=note)
    return Text(_declared_text(raw.rstrip(b"\0"), declared))


def _other(raw: bytes, text: str) -> str | None:
    """The text for a reader that believes the declaration and not the UTF-8 mark."""
    try:
        other = _by_declaration(raw[len(codecs.BOM_UTF8) :]).text
    except EncodingError:
        return None
    return None if other == text else other


def _declared(text: str) -> str | None:
    """The encoding that a document's own declaration names."""
    declaration = DECLARED.match(text[:DECLARATION_CHARACTERS])
    return declaration[1].strip() if declaration else None


def _declared_text(raw: bytes, declared: str) -> str:
    codec = _codec(declared)
    if codec == "utf-8":
        return _decoded(raw, codec)
    for name in (codec, SUPERSETS.get(codec)):
        try:
            return raw.decode(name) if name else ""
        except UnicodeDecodeError:
            continue
    raise EncodingError(f"it is not valid in {declared}, by the tables that are known here", unsupported=True)


def _decoded(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise EncodingError(f"it is no {encoding}: {error.reason}", unsupported=False) from None


def _codec(declared: str) -> str:
    """The codec of an encoding's name, if it keeps ASCII."""
    try:
        codec = codecs.lookup(ALIASES.get(declared.lower(), declared)).name
    except (LookupError, ValueError):
        codec = ""
    if codec == "utf-8":
        return codec
    if STATELESS.fullmatch(codec) and MARKUP.decode(codec, "replace").encode() == MARKUP:
        return codec
    raise EncodingError(f"it is in the encoding {declared!r}, which is not supported", unsupported=True)


def _family(encoding: str) -> str:
    """The name of an encoding without its byte order."""
    name = encoding.lower().replace("_", "-")
    return next((family for family, names in FAMILIES.items() if names.fullmatch(name)), name)
