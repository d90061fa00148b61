"""Keyhole: what the disk images in S3 really are, and whether they are whole and safe.

The rooms, from the bottom up; a room never imports one above it: `inspectors` (bytes in, facts out),
`sources` (bytes by range), `scan` (one object, one report), `results` (where verdicts go), `jobs` (what is to
be done), `intake` (where work comes from), `tasks` and `app` (Celery), `cli` (the command).
"""

__version__ = "0.1.0"
