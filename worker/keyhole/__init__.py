"""Keyhole finds out which format disk images in S3 really have, and whether they are whole and safe.

The main packages, from the lowest to the highest: `inspectors` (turns bytes into facts), `sources` (reads
ranges of bytes), `scan` (scans one object and makes a report), `results` (stores verdicts), `jobs` (stores
open work), `intake` (finds work), `tasks` and `app` (Celery), `cli` (the command). A package never imports a
higher package.
"""

__version__ = "0.1.0"
