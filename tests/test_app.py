"""The Celery application's settings, as far as they depend on each other or on Keyhole's settings."""

import subprocess
import sys

import pytest

from keyhole.app import configuration
from keyhole.embedded.processes import STOP_SECONDS
from keyhole.fleet.entry_runner import MAX_LOST
from keyhole.fleet.ledger_task import MAX_RETRIES
from keyhole.jobs.queues import JOBS, QUEUES
from keyhole.limits import LAST_SHUTDOWN, SHUTDOWN, VISIBILITY
from keyhole.settings import Settings
from keyhole.tasks import scan, scan_batch


def configured(**settings: object) -> dict[str, object]:
    return configuration(Settings.model_validate(settings))


class TestTheBroker:
    @pytest.mark.parametrize(
        ("settings", "url"),
        [
            ({"redis_url": "redis://r/1"}, "redis://r:6379/1"),
            ({"redis_url": "redis://u:p;%2F@[::1]:1?db=3"}, "redis://u:p%3B%2F@[::1]:1/3"),
            ({"redis_url": "redis://r/1", "broker_url": "amqp://q"}, "amqp://q"),
            ({"redis_url": "unix:///run/r.sock"}, "redis+socket:///run/r.sock?virtual_host=0"),
            ({}, None),
        ],
    )
    def test_it_is_the_redis_unless_another_is_set(self, settings: dict[str, str], url: str | None) -> None:
        assert configured(**settings)["broker_url"] == url

    def test_options_of_redis_are_given_to_a_redis_alone(self) -> None:
        redis = configured(redis_url="redis://r")["broker_transport_options"]
        other = configured(redis_url="redis://r", broker_url="amqp://q")["broker_transport_options"]

        assert isinstance(redis, dict)
        assert isinstance(other, dict)
        assert redis["visibility_timeout"] == VISIBILITY
        assert "visibility_timeout" not in other

    def test_its_keys_are_keyholes(self) -> None:
        options = configured(redis_url="redis://r")["broker_transport_options"]

        assert isinstance(options, dict)
        assert options["global_keyprefix"].startswith("keyhole:")


class TestTimes:
    def test_they_are_those_that_the_settings_say(self) -> None:
        settings = configured(redis_url="redis://r", soft_seconds=400, hard_seconds=500)

        assert (settings["task_soft_time_limit"], settings["task_time_limit"]) == (400, 500)

    def test_a_finished_job_is_remembered_for_longer_than_its_message_may_come_again(self) -> None:
        assert Settings().done_seconds > VISIBILITY * (MAX_RETRIES + 1)

    def test_the_usual_batch_is_done_in_one_delivery(self) -> None:
        """One delivery is enough even if every object takes ten seconds.

        Most objects take a tenth of a second.
        """
        settings = Settings()
        rounds = -(-settings.batch_size // settings.scan_threads)

        assert (rounds - 1) * 10 <= settings.limits.begin

    def test_a_command_waits_for_its_worker_longer_than_that_takes_to_stop(self) -> None:
        assert SHUTDOWN < LAST_SHUTDOWN < STOP_SECONDS

    def test_a_job_is_given_up_before_its_message_is(self) -> None:
        """If the broker dropped the message first, the job would get no verdict."""
        assert MAX_LOST <= MAX_RETRIES
        assert scan.max_retries == scan_batch.max_retries == MAX_RETRIES


def test_the_queues_are_closed() -> None:
    settings = configured(redis_url="redis://r")

    assert settings["task_create_missing_queues"] is False
    assert settings["task_default_queue"] == JOBS
    assert JOBS in QUEUES


def test_a_message_cannot_carry_code() -> None:
    assert configured()["accept_content"] == ["json"]


def test_a_program_that_submits_jobs_keeps_its_own_decoders() -> None:
    """Only a worker refuses compressed messages."""
    code = (
        "import keyhole.tasks; from kombu.compression import compress, decompress; "
        "print(decompress(compress(b'x', 'gzip')[0], 'gzip'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "b'x'\n", done.stderr
