"""The dashboard: a small web application that shows verdicts, audits and workers, and changes nothing."""
