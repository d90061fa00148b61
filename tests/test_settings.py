"""Keyhole reads its settings from the environment, and refuses wrong values."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from keyhole.reasons import Status
from keyhole.settings import Settings, unknown


@pytest.fixture(autouse=True)
def _nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset all settings, so that each test sets its own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"KEYHOLE_{name.upper()}", raising=False)


def test_none_need_be_set() -> None:
    settings = Settings()

    assert settings.redis_url is None
    assert settings.sinks == ("redis",)


@pytest.mark.parametrize(
    ("value", "sinks"),
    [
        ("redis", ("redis",)),
        ("tags", ("tags",)),
        ("redis,tags", ("redis", "tags")),
        (" tags , redis ,", ("tags", "redis")),
    ],
)
def test_sinks_are_a_list(monkeypatch: pytest.MonkeyPatch, value: str, sinks: tuple[str, ...]) -> None:
    monkeypatch.setenv("KEYHOLE_SINKS", value)

    assert Settings().sinks == sinks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SINKS", ","),
        ("SINKS", "kafka"),
        ("NOTIFY_STATUSES", "dangerous"),
        ("SNS_TOPIC", "topic"),
        ("EVENTBRIDGE_BUS", "a bus"),
        ("SQS_QUEUE", "queue"),
        ("SQS_QUEUE", "https://user:secret@host/1/queue"),
        ("WEBHOOK_URL", "ftp://host/"),
        ("WEBHOOK_URL", "https://user:secret@host/"),
        ("WEBHOOK_SECRET", "secret"),
        ("BUCKETS", " ,\t"),
        ("AUDIT_RATE", "0.0001"),
        ("AUDIT_RATE", "1e300"),
        ("RECORD_SECONDS", "10000000000000000"),
        ("UNDECIDED_SECONDS", "1000000000000"),
        ("SOFT_SECONDS", "10000000000"),
        ("STREAM_LENGTH", "10000000000000000000"),
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "1001"),
        ("SCAN_THREADS", "0"),
        ("MEMORY_BYTES", "1048576"),
        ("MEMORY_BYTES", "4294967296"),
        ("BUDGET_CPU_SECONDS", "0"),
        ("HEAD_BYTES", "511"),
        ("BUDGET_SECONDS", "0"),
        ("BUDGET_SECONDS", "nan"),
        ("DONE_SECONDS", "59"),
        ("RECORD_SECONDS", "-1"),
        ("LOG_LEVEL", "loud"),
        ("PRICES", "/nowhere.toml"),
        ("RESEND_SECONDS", "0"),
        ("AUDIT_RATE", "-1"),
        ("AUDIT_RATE", "inf"),
        ("AUDIT_OUTSTANDING", "0"),
        ("S3_ENDPOINT_URL", "localhost:9000"),
        ("S3_ENDPOINT_URL", "http://"),
        ("S3_ENDPOINT_URL", "http://host:port"),
        ("S3_ENDPOINT_URL", "http://user:secret@host"),
        ("S3_ENDPOINT_URL", "http://host/a path"),
        ("S3_ADDRESSING_STYLE", "host"),
        ("REQUEST_PAYER", "owner"),
        ("EXPECTED_BUCKET_OWNER", "me"),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"KEYHOLE_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_blanks_around_an_endpoint_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore panics if a blank follows the endpoint."""
    monkeypatch.setenv("KEYHOLE_S3_ENDPOINT_URL", " http://127.0.0.1:9000 ")

    assert Settings().s3_endpoint_url == "http://127.0.0.1:9000"


def test_the_budget_of_a_scan_is_the_settings() -> None:
    settings = Settings(budget_requests=7, budget_bytes=1024, budget_seconds=1.5, head_bytes=512, gap_bytes=0)

    scan = settings.scan

    assert (scan.head_bytes, scan.gap_bytes) == (512, 0)
    assert (scan.budget.requests, scan.budget.bytes, scan.budget.seconds) == (7, 1024, 1.5)


def test_everyone_has_a_data_folder() -> None:
    assert isinstance(Settings().data_dir, Path)
    assert Settings().data_dir.is_absolute()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().batch_size = 1  # type: ignore[misc] # that it can't is the point


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYHOLE_BATCH_SIZE", "")
    monkeypatch.setenv("KEYHOLE_SINKS", "")

    assert Settings() == Settings(batch_size=100, sinks=("redis",))


def test_a_passed_value_replaces_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYHOLE_BATCH_SIZE", "7")
    monkeypatch.setenv("KEYHOLE_SCAN_THREADS", "0")

    assert Settings(scan_threads=1).batch_size == 7
    assert Settings(batch_size=8, scan_threads=2).batch_size == 8


def test_the_name_of_a_variable_may_be_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("keyhole_batch_size", "7")

    assert Settings().batch_size == 7


def test_a_variable_that_resembles_no_setting_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It can be a setting of a later version, so it is no error."""
    monkeypatch.setattr(unknown, "_told", set())
    monkeypatch.setenv("BATCH_SIZE", "0")
    monkeypatch.setenv("KEYHOLE_NOTHING", "secret")

    assert Settings().batch_size == Settings().batch_size == 100
    (message,) = [record.getMessage() for record in caplog.records]
    assert "has no setting KEYHOLE_NOTHING" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [("BUCKET", "BUCKETS"), ("SINK", "SINKS"), ("POLCY", "POLICY"), ("redis_ulr", "REDIS_URL")],
)
def test_a_variable_that_resembles_a_setting_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(f"KEYHOLE_{name}", "secret")

    with pytest.raises(ValidationError, match=f"did you mean KEYHOLE_{meant}") as caught:
        Settings()

    assert "secret" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_HOST", "10.0.0.1"),
        ("METRIC_SERVICE_PORT_HTTP", "9090"),
        ("METRIC_PORT", "tcp://10.0.0.1:9090"),
        ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("VALKEY_PASSWORD", "secret"),
    ],
)
def test_variables_of_kubernetes_and_compose_are_no_settings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    monkeypatch.setattr(unknown, "_told", set())
    monkeypatch.setenv(f"KEYHOLE_{name}", value)

    Settings()

    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [("polcy", "did you mean policy"), ("xyz", "`keyhole docs settings` lists all settings")],
)
def test_an_argument_that_is_no_setting_is_an_error(name: str, hint: str) -> None:
    with pytest.raises(ValidationError, match=f"there is no setting '{name}'; {hint}"):
        Settings(**{name: "azure"})


def test_the_defaults_are_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a default cannot be a value that Keyhole would refuse in a variable."""
    monkeypatch.setattr("keyhole.settings.settled_policy", lambda _name: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        Settings()


WEBHOOK = {"sinks": "redis,webhook", "webhook_url": "https://hooks.example/"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"sinks": "sns"}, "KEYHOLE_SNS_TOPIC"),
        ({"sinks": "eventbridge"}, "KEYHOLE_EVENTBRIDGE_BUS"),
        ({"sinks": "redis,sqs"}, "KEYHOLE_SQS_QUEUE"),
        ({"sinks": "webhook"}, "KEYHOLE_WEBHOOK_URL"),
        (WEBHOOK, "KEYHOLE_WEBHOOK_SECRET"),
        (
            WEBHOOK | {"webhook_url": "http://hooks.example/", "webhook_secret": SECRET},
            "KEYHOLE_WEBHOOK_PRIVATE",
        ),
    ],
)
def test_a_sink_needs_its_own_settings(given: dict[str, str], missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        Settings.model_validate(given)


def test_the_secret_of_a_webhook_is_not_printed() -> None:
    settings = Settings.model_validate(WEBHOOK | {"webhook_secret": SECRET})

    assert SECRET not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    "given",
    [
        {"redis_url": "redis://user:Geh3im@host:99999/0"},
        {"broker_url": "amqp://user:Geh3im@host:port/"},
        {"redis_url": "redis://:Geh3im@host/0", "polcy": "azure"},
        {"s3_endpoint_url": "https://user:Geh3im@host"},
        {"dashboard_token": "Geh3im"},
        {"webhook_secret": "Geh3im"},
    ],
    ids=str,
)
def test_an_error_about_a_setting_contains_no_password(given: dict[str, str]) -> None:
    """A program or a worker prints the error with its traceback."""
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(given)

    assert "Geh3im" not in str(refused.value)


def test_printed_settings_contain_no_password() -> None:
    settings = Settings(redis_url="redis://:Geh3im@host/0", events_url="amqp://user:Geh3im@host/queue")

    assert "Geh3im" not in f"{settings!r} {settings!s}"
    assert "redis://***@host/0" in repr(settings)


def test_by_default_only_safe_verdicts_are_not_sent() -> None:
    assert set(Settings().notify_statuses) == set(Status) - {Status.SAFE}
