"""Charts: SVG in the page's colours, without anything that the page's policy would refuse."""

import re
import sys
from importlib.metadata import version

from defusedxml.ElementTree import fromstring

from keyhole.reports import charts
from keyhole.reports.charts import Series

ATTRIBUTES = {"aria-hidden", "class", "d", "height", "transform", "viewBox", "width", "x", "y"}


def elements(drawn: str) -> list[tuple[str, dict[str, str], str]]:
    root = fromstring(f"<div>{drawn}</div>")
    return [(one.tag, dict(one.attrib), one.text or "") for one in root.iter()][1:]


def test_a_chart_is_drawn_for_wide_and_for_narrow_screens() -> None:
    drawn = elements(charts.counts(["a/"], [Series("safe", [1])]))
    assert [one["class"] for tag, one, _ in drawn if tag == "svg"] == ["chart wide", "chart narrow"]


def test_a_chart_has_only_shapes_and_labels() -> None:
    chart = charts.counts(["a/", "b/"], [Series("unsafe", [1, 0]), Series("safe", [2, 3])])

    for tag, attributes, _ in elements(chart):
        assert tag in {"svg", "g", "rect", "path", "text", "title"}
        assert attributes.keys() <= ATTRIBUTES
    bars = zip(elements(chart), elements(chart)[1:], strict=False)
    drawn = {after[2] for bar, after in bars if bar[0] == "rect" and float(bar[1]["width"])}
    assert drawn == {"1", "2", "3"}


def test_labels_cannot_become_elements_and_are_shortened() -> None:
    hostile = ["<script>alert(1)</script>/", "a\u202eb/", "folder/" * 100]

    texts = {
        text for tag, _, text in elements(charts.counts(hostile, [Series("safe", [1, 1, 1])], ends=True))
    }

    assert {"<script>alert(1)</script>/", "a\\u202eb/"} <= texts
    assert max(map(len, texts)) == 30
    assert any(text.startswith("…older/folder/") or re.match("….*folder/$", text) for text in texts)
    begins = {text for _, _, text in elements(charts.counts(hostile, [Series("safe", [1, 1, 1])]))}
    assert {f"{'folder/' * 4}f…", "folder/folder/…"} <= begins


def test_bytes_have_a_logarithmic_scale_in_powers_of_1024() -> None:
    drawn = elements(charts.sizes(["qcow2"], [Series("stored", [2**20]), Series("virtual", [2**40])]))

    marks = [text for tag, _, text in drawn if tag == "text" and text.endswith(" TiB")]
    lengths = [float(one["width"]) for tag, one, _ in drawn if tag == "rect"][:2]
    assert marks
    assert 1.9 < max(lengths) / min(lengths) < 2.1  # 40 doublings are twice as many as 20


def test_any_number_of_bytes_is_drawn() -> None:
    for count in (0, 1, 2**64, 10**100):
        drawn = elements(charts.sizes(["x"], [Series("stored", [count]), Series("virtual", [0])]))
        lengths = [float(one["width"]) for tag, one, _ in drawn if tag in {"rect", "svg"}]
        assert all(0 <= length <= 592 for length in lengths)


def test_drawing_leaves_the_imports_of_the_program_alone() -> None:
    charts.counts(["a/"], [Series("safe", [1])])
    assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("pygal")]
    assert version("redis")  # other libraries still find the metadata of packages
