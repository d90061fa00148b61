"""Where work comes from: what a person submits, and what a listing finds."""
