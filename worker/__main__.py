"""`python -m worker` is the command `keyhole`."""

from worker.cli import main

main()
