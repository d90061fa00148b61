"""Creates the event handler that `keyhole listen`, `keyhole dead` and `keyhole demo` use."""

from keyhole.app import configure
from keyhole.fleet.services import services, use_settings
from keyhole.intake.events.deletion import VerdictDeleter, is_gone
from keyhole.intake.events.handling import Handler, Rules
from keyhole.results.drop import Drops
from keyhole.settings import Settings
from keyhole.tasks import publisher


def event_handler(settings: Settings) -> Handler:
    """Configure Celery and the services of this process, and return a handler of S3 events."""
    configure(settings)
    use_settings(settings)
    here = services()
    deleter = VerdictDeleter(Drops(here.redis), lambda name: is_gone(lambda: here.s3, name))
    rules = Rules(
        settings.event_selection,
        here.buckets,
        here.ruleset,
        settings.dead_after,
        settings.event_window_seconds,
    )
    return Handler(here.ledger, publisher(), here.dead_letters, deleter, rules)
