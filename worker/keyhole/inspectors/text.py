"""Text from outside, made fit for people: it may hold anything, terminal control codes included.

What cannot be seen becomes an escape as Python writes them: control characters, marks that turn the direction
of writing, line ends, characters of no width, and any blank but the usual one.
"""

#: The longest text from an image that is shown. qcow2 allows 1,023 bytes for a file name, the longest of the
#: formats.
SHOWN_CHARACTERS = 1023
#: At most so many bytes of a text are decoded: no encoding takes more than four for a character.
DECODED_BYTES = 4 * (SHOWN_CHARACTERS + 1)


def printable(raw: bytes, encoding: str = "utf-8") -> str:
    """Decode bytes from an image for display: undecodable bytes and unprintable characters become escapes."""
    text = raw[:DECODED_BYTES].decode(encoding, "backslashreplace")
    shown = escaped(text)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…"


def shown(text: str) -> str:
    """A key, a URI or an error for display, as `printable` makes it of bytes."""
    return printable(text.encode("utf-8", "surrogatepass"))


def escaped(text: str) -> str:
    """Text in one line, of any length, with escapes in place of what cannot be seen."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escaped_lines(text: str) -> str:
    """The same for text of several lines, whose line ends stay."""
    return "\n".join(map(escaped, text.split("\n")))
