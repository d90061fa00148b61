"""A logger that says nothing, for inspectors that are not asked to trace."""


class TraceDisabled:
    """A logger-like thing that swallows tracing when we do not want it."""

    def debug(self, *_args: object, **_kwargs: object) -> None:
        """Swallow the message."""

    info = debug
    warning = debug
    error = debug
