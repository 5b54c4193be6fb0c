"""What a conversation raises when it is answered something else than it should be."""


class UnexpectedAnswer(Exception):
    """A status or body that the request should not have got."""
