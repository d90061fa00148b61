"""One object in, one report out: plan the ranges, fetch, feed, stop early, judge."""
