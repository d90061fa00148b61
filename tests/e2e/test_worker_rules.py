"""A running worker states its rules, sinks and queues, so commands can tell a user who expects others."""

from keyhole.builders import qcow2
from keyhole.fleet.services import services
from keyhole.jobs.presence import Presence
from keyhole.jobs.queues import QUEUES
from tests.e2e import commands
from tests.e2e.conftest import Site


def test_a_command_with_another_policy_than_the_workers_warns(site: Site) -> None:
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=qcow2(1024**3).to_bytes())
    commands.until(lambda: set(Presence(site.redis).rulesets().values()) == {services().ruleset})
    assert set(Presence(site.redis).sinks().values()) == {frozenset(services().settings.sinks)}
    assert set(Presence(site.redis).queues().values()) == {frozenset(QUEUES)}

    other = commands.keyhole(
        "submit", f"s3://{bucket}/a.qcow2", "--wait", env=site.env | {"KEYHOLE_POLICY": "azure"}
    )
    same = commands.keyhole(
        "submit", f"s3://{bucket}/a.qcow2", "--wait", env=site.env | {"KEYHOLE_POLICY": "default"}
    )

    assert commands.lines(other.stderr)[0] == (
        "Warning: KEYHOLE_POLICY of this command is azure, but the workers apply default. "
        "The policy of the workers decides the verdicts."
    )
    assert b"Warning" not in same.stderr
