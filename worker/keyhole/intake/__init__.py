"""The sources of work: events, listings, inventories, audits, schedules and dead letters."""
