"""Fetches and parses pages of metrics."""

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


def fetched(port: int, *, timeout: float = 60.0) -> str:
    """Fetch the page of metrics at a port of this host."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout) as response:
        text: str = response.read().decode()
    return text


def served(port: int) -> str:
    """Return the page of metrics; empty if no process serves it yet."""
    try:
        return fetched(port)
    except OSError:
        return ""


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of a page, by name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(page: str, name: str, **labels: str) -> float | None:
    """Return the value of a sample; `None` if the page does not have the sample."""
    return samples(page).get((name, tuple(sorted(labels.items()))))
