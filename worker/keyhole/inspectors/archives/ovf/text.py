"""Finds the encoding of an OVF descriptor, and decodes the descriptor's bytes.

Source: XML 1.0, section 4.3.3 and appendix F. WHATWG, "Encoding", lists the encodings that readers use for
names such as `gb2312`.

| the bytes begin with | Keyhole decodes them as |
|---|---|
| a byte order mark | the mark's encoding, like libxml2, even if the text declares another encoding |
| `<` and zeros, or zeros and `<` | UTF-16 or UTF-32 without a mark |
| other bytes | the declared encoding; UTF-8 if the text declares UTF-16, UTF-32 or no encoding |

Keyhole supports a declared encoding only if Python has a codec for it and the encoding contains ASCII
unchanged. It does not support encodings with escape sequences (`iso-2022-jp`, `hz`, `utf-7`), because a
reader that ignores the escape sequences sees different markup.
"""

import codecs
import re
from typing import NamedTuple

#: The byte order marks. UTF-32-LE must come before UTF-16-LE, because the mark of UTF-32-LE begins with the
#: mark of UTF-16-LE.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: The first bytes of a document without a mark, in encodings with two or four bytes per character.
WIDE = (
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
#: `<?xml` in EBCDIC.
EBCDIC = b"\x4c\x6f\xa7\x94"

#: Keyhole searches for the XML declaration in this many characters at the beginning of the text.
DECLARATION_CHARACTERS = 1024
DECLARED = re.compile(r"""<\?xml\s[^>]*?\sencoding\s*=\s*["']([^"'>]{1,40})["']""")

#: The names that declare each Unicode encoding, with or without a byte order.
FAMILIES = {
    "utf-8": re.compile(r"utf-?8"),
    "utf-16": re.compile(r"(utf-?16|(iso-10646-)?ucs-?2|unicode)(-?[bl]e)?"),
    "utf-32": re.compile(r"(utf-?32|(iso-10646-)?ucs-?4)(-?[bl]e)?"),
}

#: The names of codecs without escape sequences. EBCDIC code pages match, too, but the test with `MARKUP`
#: excludes them, because they do not contain ASCII unchanged.
STATELESS = re.compile(
    r"ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|tis-620|ptcp154|kz1048|hp-roman8"
    r"|shift_jis(_2004|x0213)?|euc_(jp|kr|jis_2004|jisx0213)|gb(2312|k|18030)|big5(hkscs)?"
)
#: The names of encodings that XML documents use but Python does not accept, with Python's names for them.
ALIASES = {"windows-31j": "cp932", "x-sjis": "shift_jis", "windows-936": "gbk", "windows-949": "cp949"}
#: Maps a codec to a codec for a larger character set, which many readers use instead. Keyhole uses the larger
#: codec if the declared codec cannot decode the text.
SUPERSETS = {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
}
#: The ASCII characters that XML allows. Keyhole supports a declared encoding only if the encoding contains
#: these characters unchanged.
MARKUP = bytes([9, 10, 13, *range(0x20, 0x7F)])


class EncodingError(Exception):
    """The text cannot be decoded.

    `unsupported` is true if the text can be valid, but Keyhole does not fully support its encoding. It is
    false if the text is invalid.
    """

    def __init__(self, message: str, *, unsupported: bool) -> None:
        super().__init__(message)
        self.unsupported = unsupported


class Text(NamedTuple):
    """The text of a descriptor.

    If the declaration contradicts a UTF-8 mark, some readers follow the declaration. `other` is the text that
    these readers see; `None` if it is the same text, or if they cannot decode it. If the declaration
    contradicts the bytes, some readers refuse the text. `note` is then a sentence about this for the report;
    otherwise `None`.
    """

    text: str
    other: str | None = None
    note: str | None = None


def decode(raw: bytes) -> Text:
    """Decode a descriptor.

    Raises:
        EncodingError: The encoding is not supported, or the bytes are not valid in their encoding.
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
    note = f"the OVF states the encoding {declared}, but it begins like {encoding}"
    return Text(text, _other(raw, text) if encoding == "utf-8" else None, note)


def _by_declaration(raw: bytes) -> Text:
    """Decode a text that has no byte order mark, in an encoding that contains ASCII."""
    if raw.startswith(EBCDIC):
        raise EncodingError("it is in EBCDIC, which is not supported", unsupported=True)
    declared = _declared(raw[:DECLARATION_CHARACTERS].decode("latin-1"))
    if declared is None:
        return Text(_decoded(raw.rstrip(b"\0"), "utf-8"))
    if _family(declared) in {"utf-16", "utf-32"}:
        note = f"the OVF states the encoding {declared}, but it is not in this encoding"
        return Text(_decoded(raw.rstrip(b"\0"), "utf-8"), note=note)
    return Text(_declared_text(raw.rstrip(b"\0"), declared))


def _other(raw: bytes, text: str) -> str | None:
    """Return the text that readers see if they follow the declaration and ignore the UTF-8 mark.

    `None` if this text is the same, or cannot be decoded.
    """
    try:
        other = _by_declaration(raw[len(codecs.BOM_UTF8) :]).text
    except EncodingError:
        return None
    return None if other == text else other


def _declared(text: str) -> str | None:
    """Return the encoding that the XML declaration states; `None` if it states no encoding."""
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
    raise EncodingError(f"it is not valid in {declared} according to Python's codecs", unsupported=True)


def _decoded(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise EncodingError(f"it is not valid {encoding}: {error.reason}", unsupported=False) from None


def _codec(declared: str) -> str:
    """Return the codec for a declared encoding.

    Raises:
        EncodingError: Keyhole does not support the encoding.
    """
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
    """Return the name of an encoding without its byte order."""
    name = encoding.lower().replace("_", "-")
    return next((family for family, names in FAMILIES.items() if names.fullmatch(name)), name)
