"""Text that an image contains, made fit for people: it may hold anything, terminal control codes included."""

#: The longest text from an image that is shown. qcow2 allows 1,023 bytes for a file name, the longest of the
#: formats.
SHOWN_CHARACTERS = 1023
#: What is decoded, however long the text is: no encoding takes more bytes for a character.
DECODED_BYTES = 4 * (SHOWN_CHARACTERS + 1)


def printable(raw: bytes, encoding: str = "utf-8") -> str:
    """Decode bytes from an image for display: undecodable bytes and unprintable characters become escapes."""
    text = raw[:DECODED_BYTES].decode(encoding, "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…"
