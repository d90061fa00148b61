"""The line of progress shows the rate of the whole time, and an honest estimate of the time left."""

import pytest

from keyhole.cli.progress import counts


@pytest.mark.parametrize(
    ("done", "total", "seconds", "line"),
    [
        (0, None, 0, "0"),
        (0, 8, 1, "0 of 8"),
        # Two objects that were done almost at the same time are not a high rate.
        (2, None, 2, "2, 1/s, 2 s so far"),
        (3, None, 60, "3, 3/min, 1 min 0 s so far"),
        (1_000, 5_000, 10, "1,000 of 5,000, 100/s, about 40 s left"),
        (8, 8, 4, "8 of 8, 2/s"),
    ],
)
def test_the_rate_is_that_of_the_whole_time(done: int, total: int | None, seconds: float, line: str) -> None:
    assert counts(done, total, seconds) == line
