"""The sources of work: events, listings, inventories, audits and schedules; and dead letters."""
