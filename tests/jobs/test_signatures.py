"""Signatures of messages: Keyhole accepts only messages that are signed with its key."""

import json
from base64 import b64encode
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any

import pytest

from keyhole.jobs.queues import EVENTS, JOBS
from keyhole.jobs.signatures import CLOCK_SECONDS, HEADER, Keyring, UnsignedError, read_keys

#: A key that is the same in every run.
KEY = sha256(b"test").hexdigest()
NOW = 1_800_000_000
BODY = b'[[{"id": "1"}], {}, {}]'
HEADERS: dict[str, Any] = {
    "task": "keyhole.scan",
    "id": "1",
    "eta": None,
    "expires": None,
    "retries": 0,
    "timelimit": [None, None],
    "origin": "whoever",
}


def keyring(tmp_path: Path, *lines: str) -> Keyring:
    """A keyring from a file with these lines."""
    path = tmp_path / token_hex(4)
    path.touch(mode=0o600)
    path.write_text("\n".join(lines or (token_hex(32),)))
    return read_keys(path)


def signed(keys: Keyring) -> dict[str, Any]:
    return HEADERS | {HEADER: keys.sign(JOBS, HEADERS, BODY, NOW)}


class TestAMessage:
    def test_that_was_signed_tells_when(self, tmp_path: Path) -> None:
        keys = keyring(tmp_path)
        assert keys.verify(JOBS, signed(keys), BODY, NOW + 5) == NOW

    def test_is_the_same_after_json(self, tmp_path: Path) -> None:
        """A broker passes the message on as JSON, so a tuple becomes a list."""
        keys = keyring(tmp_path)
        headers = HEADERS | {"timelimit": (None, None)}
        sent = json.loads(json.dumps(headers | {HEADER: keys.sign(JOBS, headers, BODY, NOW)}))
        assert keys.verify(JOBS, sent, BODY, NOW) == NOW

    def test_may_bear_what_brokers_and_logs_add(self, tmp_path: Path) -> None:
        keys = keyring(tmp_path)
        headers = signed(keys) | {"x-delivery-count": 1, "origin": "another"}
        del headers["timelimit"]  # as a worker does
        assert keys.verify(JOBS, headers, BODY, NOW) == NOW

    def test_without_a_signature_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UnsignedError, match="is not signed"):
            keyring(tmp_path).verify(JOBS, HEADERS, BODY, NOW)

    @pytest.mark.parametrize("signature", ["", "v1", 7, None, ["v1"], "v2 00000000 1 " + "0" * 64, "é"])
    def test_with_a_signature_that_is_none_is_refused(self, tmp_path: Path, signature: object) -> None:
        with pytest.raises(UnsignedError):
            keyring(tmp_path).verify(JOBS, HEADERS | {HEADER: signature}, BODY, NOW)

    @pytest.mark.parametrize(
        "changed",
        [
            {"task": "keyhole.audit_due"},
            {"id": "2"},
            {"eta": "2030-01-01T00:00:00"},
            {"expires": "2030-01-01T00:00:00"},
            {"retries": 9},
        ],
    )
    def test_that_was_changed_is_refused(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        keys = keyring(tmp_path)
        with pytest.raises(UnsignedError, match="is wrong"):
            keys.verify(JOBS, signed(keys) | changed, BODY, NOW)

    def test_with_another_body_or_queue_is_refused(self, tmp_path: Path) -> None:
        keys = keyring(tmp_path)
        for queue, body in ((JOBS, BODY + b" "), (EVENTS, BODY)):
            with pytest.raises(UnsignedError, match="is wrong"):
                keys.verify(queue, signed(keys), body, NOW)

    def test_whose_time_was_changed_is_refused(self, tmp_path: Path) -> None:
        keys = keyring(tmp_path)
        headers = signed(keys)
        headers[HEADER] = headers[HEADER].replace(str(NOW), str(NOW + 1))
        with pytest.raises(UnsignedError, match="is wrong"):
            keys.verify(JOBS, headers, BODY, NOW)

    def test_of_a_clock_far_ahead_is_refused(self, tmp_path: Path) -> None:
        """Otherwise it could be replayed after the ledger has forgotten its work."""
        keys = keyring(tmp_path)
        assert keys.verify(JOBS, signed(keys), BODY, NOW - CLOCK_SECONDS) == NOW
        with pytest.raises(UnsignedError, match="in the future"):
            keys.verify(JOBS, signed(keys), BODY, NOW - CLOCK_SECONDS - 1)


class TestReplacingAKey:
    def test_the_first_signs_and_both_verify(self, tmp_path: Path) -> None:
        old, new = token_hex(32), token_hex(32)
        steps = [[old], [old, new], [new, old], [new]]
        for before, after in pairwise(steps):
            sender, receiver = keyring(tmp_path, *before), keyring(tmp_path, *after)
            assert receiver.verify(JOBS, signed(sender), BODY, NOW) == NOW
            assert sender.verify(JOBS, signed(receiver), BODY, NOW) == NOW

    def test_a_key_that_is_gone_is_named(self, tmp_path: Path) -> None:
        gone = keyring(tmp_path)
        with pytest.raises(UnsignedError, match=f"the key {gone.keys[0].id}, which"):
            keyring(tmp_path).verify(JOBS, signed(gone), BODY, NOW)


class TestAFileOfKeys:
    def test_has_hexadecimal_digits_or_base64(self, tmp_path: Path) -> None:
        secret = token_bytes(32)
        (by_hex,) = keyring(tmp_path, secret.hex()).keys
        (by_base64,) = keyring(tmp_path, b64encode(secret).decode()).keys
        assert by_hex.id == by_base64.id

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "one or two keys"),
            ("\n \n", "one or two keys"),
            ("\n".join([KEY] * 3), "one or two keys"),
            (KEY[:62], "line 1 is not a key of at least 32 random bytes"),
            (KEY + "\n" + KEY[:32], "line 2 is not a key of at least 32 random bytes"),
            ("00" * 32, "line 1 is not a key of at least 32 random bytes"),
            ("c2VjcmV0" * 20, "line 1 is not a key of at least 32 random bytes"),
            (KEY[1:], "neither hexadecimal nor base64"),
            ("correct horse battery staple, and so on for a while", "neither hexadecimal nor base64"),
            ("\x1b[2J" + KEY, "neither hexadecimal nor base64"),
            (KEY * 70, "one or two keys"),
        ],
        ids=range(11),
    )
    def test_that_is_none_is_refused_without_a_word_of_it(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(ValueError, match=said) as refused:
            keyring(tmp_path, text)
        assert not any(word in str(refused.value) for word in text.split() if len(word) > 4)

    @pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o777])
    def test_that_everybody_can_read_or_write_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "key"
        path.write_text(token_hex(32))
        path.chmod(mode)
        with pytest.raises(ValueError, match="chmod 600"):
            read_keys(path)

    def test_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="No such file"):
            read_keys(tmp_path / "none")
        with pytest.raises(ValueError, match="Is a directory"):
            read_keys(tmp_path)

    def test_is_shown_nowhere(self, tmp_path: Path) -> None:
        secret = token_hex(32)
        shown = repr(keyring(tmp_path, secret))
        assert secret not in shown
        assert repr(bytes.fromhex(secret)) not in shown
