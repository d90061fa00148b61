"""Makes untrusted text safe to display, because such text can contain control codes for the terminal.

Invisible characters are replaced with escapes in Python's notation. The invisible characters are control
characters, line ends, zero-width characters, characters that change the direction of writing, unassigned code
points, and all blanks except the ordinary space.
"""

#: The most characters of an image's text that are displayed. The longest file names are in qcow2 images, with
#: up to 1,023 bytes.
SHOWN_CHARACTERS = 1023
#: The most bytes of a text that are decoded. No encoding needs more than four bytes for a character.
DECODED_BYTES = 4 * (SHOWN_CHARACTERS + 1)


def printable(raw: bytes, encoding: str = "utf-8") -> str:
    """Decode bytes from an image for display, with escapes for undecodable bytes and invisible characters."""
    text = raw[:DECODED_BYTES].decode(encoding, "backslashreplace")
    shown = escaped(text)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…"


def shown(text: str) -> str:
    """Return a key, a URI or an error message in a form that is safe to display; see `printable`."""
    return printable(text.encode("utf-8", "surrogatepass"))


def escaped(text: str) -> str:
    """Return the whole text in one line, with escapes for line ends and other invisible characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escaped_lines(text: str) -> str:
    """Return the whole text like `escaped`, but keep the line ends."""
    return "\n".join(map(escaped, text.split("\n")))
