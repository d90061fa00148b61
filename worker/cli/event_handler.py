"""The handler of events, by the settings, as `keyhole listen` and `keyhole dead` need it."""

from worker.app import configure
from worker.intake.events.forgetting import Forgetting, is_gone
from worker.intake.events.handling import Handler, Rules
from worker.results.drop import Drops
from worker.services import services, use_settings
from worker.settings import Settings
from worker.tasks import CeleryPublisher


def event_handler(settings: Settings) -> Handler:
    """The handler of a process that has these settings."""
    configure(settings)
    use_settings(settings)
    here = services()
    forgetting = Forgetting(Drops(here.redis), lambda name: is_gone(lambda: here.s3, name))
    rules = Rules(
        settings.event_selection,
        here.buckets,
        here.ruleset,
        settings.dead_after,
        settings.event_window_seconds,
    )
    return Handler(here.ledger, CeleryPublisher(), here.dead_letters, forgetting, rules)
