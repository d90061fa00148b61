"""Prices: the shipped table names its sources, errors in a file are reported, and no class is free."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.audits.prices import GB, Prices, load_prices, shipped_text
from keyhole.intake.listing import Listed
from keyhole.toml_files import FileError

SHIPPED = load_prices(None)
MINIMAL = """
date = 2026-01-02
region = "eu-north-1"
source = "somewhere"
currency = "USD"
list_per_1000 = 0.005
put_tagging_per_1000 = 0.005
get_tagging_per_1000 = 0.0004
[classes.STANDARD]
get_per_1000 = 0.0004
retrieval_per_gb = 0
"""
WITHOUT_CLASSES = MINIMAL.partition("[classes")[0]


def written(folder: Path, text: str) -> str:
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_shipped_prices_say_when_where_and_from_where() -> None:
    assert SHIPPED.date.year >= 2026
    assert SHIPPED.region == "us-east-1"
    assert "Amazon S3 pricing" in SHIPPED.source
    assert shipped_text().startswith("#")


@pytest.mark.parametrize(
    ("dollars", "price"),
    [
        (0.40, SHIPPED.get("STANDARD", 0)),
        (5.00, SHIPPED.put_tagging()),
        (0.40, SHIPPED.get_tagging()),
        (5.00, SHIPPED.list_request()),
        (1.00, SHIPPED.get("STANDARD_IA", 0)),
        (10.00, SHIPPED.get("GLACIER_IR", 0)),
        (0.03, SHIPPED.get("EXPRESS_ONEZONE", 0)),
    ],
)
def test_a_million_requests(dollars: float, price: float) -> None:
    """The prices are those of the price page."""
    assert price * 1_000_000 == pytest.approx(dollars)


def test_what_is_read_is_billed_by_gb() -> None:
    """A GB is 2^30 bytes. The request is billed in addition."""
    assert SHIPPED.get("GLACIER_IR", 2 * GB) == pytest.approx(0.01 / 1000 + 2 * 0.03)
    assert SHIPPED.retrieval("STANDARD_IA", GB // 2) == pytest.approx(0.005)
    assert SHIPPED.get("STANDARD", 100 * GB) == SHIPPED.get("STANDARD", 0)


@given(st.text(max_size=20), st.integers(min_value=0, max_value=2**43))
def test_a_class_without_a_price_is_never_reckoned_cheaper_than_another(name: str, size: int) -> None:
    price = SHIPPED.get(name, size)
    if SHIPPED.knows(name):
        return
    assert all(price >= SHIPPED.get(known, size) for known in SHIPPED.classes)


def test_the_dearest_of_two_classes_is_the_dearest_of_both(tmp_path: Path) -> None:
    """One class can charge more for a request, and the other more for the bytes."""
    prices = load_prices(
        written(tmp_path, MINIMAL + "[classes.COLD]\nget_per_1000 = 0.0001\nretrieval_per_gb = 2\n")
    )
    assert not prices.knows("OTHER")
    assert prices.get("OTHER", GB) == pytest.approx(0.0004 / 1000 + 2)


def test_a_file_of_ones_own_counts_alone(tmp_path: Path) -> None:
    prices = load_prices(written(tmp_path, MINIMAL))
    assert (prices.region, list(prices.classes)) == ("eu-north-1", ["STANDARD"])
    assert isinstance(prices, Prices)


def test_the_shipped_file_is_an_example_for_ones_own(tmp_path: Path) -> None:
    assert load_prices(written(tmp_path, shipped_text())) == SHIPPED
    assert set(tomllib.loads(shipped_text())) == set(Prices.model_fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "date: is required"),
        ("date = ", "is not TOML"),
        ("[" * 10_000, "is not TOML"),
        (MINIMAL.replace("0.005", "-1", 1), "list_per_1000: Input should be greater than or equal to 0"),
        (MINIMAL.replace("0.005", "nan", 1), "list_per_1000: Input should be a finite number"),
        (MINIMAL.replace("0.005", "inf", 1), "list_per_1000"),
        (MINIMAL.replace("0.005", "1e9", 1), "list_per_1000: Input should be less than or equal to 1000000"),
        (MINIMAL.replace("0.005", '"0.005"', 1), "list_per_1000: Input should be a valid number"),
        (MINIMAL.replace("0.005", "true", 1), "list_per_1000: Input should be a valid number"),
        (MINIMAL.replace("USD", "EUR"), "currency: Input should be 'USD'"),
        (MINIMAL.replace("2026-01-02", '"soon"'), "date: Input should be a valid date"),
        (MINIMAL + "storage = 1", "classes.STANDARD.storage: is not a setting here"),
        ("storage = 1\n" + MINIMAL, "storage: is not a setting here"),
        (MINIMAL.replace("get_per_1000", "get"), "classes.STANDARD.get_per_1000: is required"),
        (WITHOUT_CLASSES, "classes: is required"),
        (WITHOUT_CLASSES + "classes = {}", "classes: Dictionary should have at least 1 item"),
        (MINIMAL + '[classes."\\u001b[31m"]', "classes.\\x1b[31m.get_per_1000: is required"),
    ],
    ids=lambda value: repr(value[-40:]),
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    """The message is one line that names the file and the place."""
    path = written(tmp_path, text)
    with pytest.raises(FileError) as error:
        load_prices(path)
    assert str(error.value).startswith(path)
    assert says in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("path", ["", "/nowhere/prices.toml", "/", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(path: str) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        load_prices(path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FileError, match="cannot be read"):
        load_prices(str(path))


@pytest.mark.parametrize(
    ("storage_class", "restored", "archived"),
    [
        ("GLACIER", False, True),
        ("DEEP_ARCHIVE", False, True),
        ("GLACIER", True, False),
        ("DEEP_ARCHIVE", True, False),
        ("GLACIER_IR", False, False),
        ("INTELLIGENT_TIERING", False, False),
        ("STANDARD", False, False),
        ("", False, False),
    ],
)
def test_what_is_archived(storage_class: str, restored: bool, archived: bool) -> None:
    """A restored copy can be read. Instant retrieval needs no restoring."""
    listed = Listed("a", 1, storage_class=storage_class, restored=restored)
    assert listed.archived is archived
