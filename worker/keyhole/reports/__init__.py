"""Reports: what an audit found, for programs, for spreadsheets and for people."""
