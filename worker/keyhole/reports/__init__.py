"""Writes the result of an audit: JSON Lines and Parquet for programs, CSV for spreadsheets, HTML to read."""
