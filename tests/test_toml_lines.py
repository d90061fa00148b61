"""The lines of values in TOML files, as error messages state them."""

import pytest

from keyhole.toml_lines import line_of, line_of_text

TEXT = """\
a = 1
text = '''
b = 2
[[list]]
'''
"quoted key" = 3

[[list]]
x.y = 4
[list.inner]
z = [
  "one",
  "two",  # [[list]]
]
[[ list ]]  # the second
inline = {z = 1}
[plain.table]
deep = 5
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("b",), None),
        (("quoted key",), 6),
        (("list", 0), 8),
        (("list", 0, "x", "y"), 9),
        (("list", 0, "inner", "z"), 11),
        (("list", 0, "inner", "z", 1), 11),
        (("list", 0, "missing"), 8),
        (("list", 1), 15),
        (("list", 1, "inline", "z"), 16),
        (("plain", "table", "deep"), 18),
        (("plain", "table", "missing"), 17),
        ((), None),
    ],
)
def test_the_line_of_a_value_or_of_its_table(path: tuple[int | str, ...], line: int | None) -> None:
    assert line_of(TEXT, path) == line


def test_an_entry_of_an_array_is_found_from_its_key_on() -> None:
    assert line_of_text(TEXT, 11, "two") == 13
    assert line_of_text(TEXT, 11, "three") == 11
    assert line_of_text(TEXT, 1, "one") == 1
