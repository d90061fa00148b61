"""The table of remedies: complete, and readable in one line."""

import re
from dataclasses import astuple

from keyhole.inspectors.findings import CHECKS
from keyhole.reasons import Reason, Status
from keyhole.remedies import REMEDIES, STATUSES_TO_DO, what_to_do

#: The most characters of a line that tells what to do.
MOST_CHARACTERS = 110


def test_every_reason_and_no_other_code_has_a_remedy() -> None:
    assert set(REMEDIES) == {*CHECKS, *Reason}
    assert set(STATUSES_TO_DO) == set(Status)


def test_what_to_do_is_one_short_line_that_can_follow_a_colon() -> None:
    for code in (*REMEDIES, *STATUSES_TO_DO):
        line = what_to_do(code)
        assert re.fullmatch(r"[a-z].*[^.;:\s]", line), (code, line)
        assert len(line) <= MOST_CHARACTERS, (code, len(line))


def test_each_explanation_consists_of_whole_sentences() -> None:
    for code, remedy in REMEDIES.items():
        for text in (remedy.why, remedy.cause, remedy.check, remedy.repair):
            assert re.fullmatch(r"(?:[A-Z`]|qemu-img ).*\.", text), (code, text)


def test_texts_have_no_double_spaces_or_odd_characters() -> None:
    for code, remedy in REMEDIES.items():
        assert not re.search(r"  |[^ -~…]", str(astuple(remedy))), code


def test_a_code_of_a_later_version_advises_to_update() -> None:
    assert "a later Keyhole explains it" in what_to_do("cosmic_rays")
