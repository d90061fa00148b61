"""Makes text from outside safe to show: such text may hold anything, including terminal control codes.

Characters that cannot be seen become escapes in Python's notation: control characters, marks that change the
direction of writing, line ends, zero-width characters, and all blanks except the ordinary space.
"""

#: The longest text from an image that is shown. qcow2 allows 1,023 bytes for a file name, more than any other
#: format.
SHOWN_CHARACTERS = 1023
#: The most bytes of a text that are decoded: no encoding takes more than four bytes for a character.
DECODED_BYTES = 4 * (SHOWN_CHARACTERS + 1)


def printable(raw: bytes, encoding: str = "utf-8") -> str:
    """Decode bytes from an image for display: undecodable bytes and unprintable characters become escapes."""
    text = raw[:DECODED_BYTES].decode(encoding, "backslashreplace")
    shown = escaped(text)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…"


def shown(text: str) -> str:
    """Prepare a key, a URI or an error for display, as `printable` does with bytes."""
    return printable(text.encode("utf-8", "surrogatepass"))


def escaped(text: str) -> str:
    """Return text of any length in one line, with escapes in place of characters that cannot be seen."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escaped_lines(text: str) -> str:
    """Do the same as `escaped` with text of several lines, but keep the line ends."""
    return "\n".join(map(escaped, text.split("\n")))
