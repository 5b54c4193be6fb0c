"""How a command says that it failed."""


class CommandFailed(Exception):
    """A command could not do its work: one line that says why, one that says what to do."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(message)
