"""Texts that do harm if they are shown unescaped, and the characters that no output can contain."""

SECRET = "s3cret"
#: A URL whose password is not correctly percent-encoded.
URL = f"redis://user:{SECRET}/{SECRET}?{SECRET}@host:6379/0"
#: Texts that a terminal would execute, or that hide or reverse the text beside them.
COMMANDS = (
    "\x1b]0;owned\x07",  # sets the title (OSC 0)
    "\x1b]8;;http://evil.example\x1b\\",  # turns the text after it into a link (OSC 8)
    "\x1b]52;c;Y3VybA==\x07",  # writes the clipboard (OSC 52)
    "\x1b[2J",  # clears the screen (CSI)
    "\x9b31m",  # CSI as one byte of C1
    "\x1bP$q\x1b\\",  # DCS
    "\x08\x08",  # overwrites the text before it
    "\x00",
    "\x7f",
    "\u202e",  # reverses the direction of writing: "gpj.exe" is displayed as "exe.jpg"
    "\u2066",
    "\u200b",  # is invisible
    "\u2028",  # ends a line
    "\x85",  # ends a line, in C1
)
#: A key or metadata value that contains all these commands, a formula, markup and a template.
HOSTILE = "=cmd|'/C calc'!A1 <script>alert(1)</script> {{7*7}} [link=http://evil]x[/link] " + "".join(
    COMMANDS
)
#: The same text without the characters that an HTTP header cannot contain.
HOSTILE_METADATA = "=1+1 <b>bold</b> [red]x[/red] {{7*7}}"
