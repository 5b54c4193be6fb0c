"""Statements about the switches of an installation."""

from typing import Final

from millstream.pgwf.arguments import require_positive, require_truth
from millstream.pgwf.statements.statement import Statement, number, statement, truth

_SET_TRACE: Final = "select pgwf.set_trace(enabled => cast(:enabled as boolean))"
_SET_NOTIFY: Final = "select pgwf.set_notify(enabled => cast(:enabled as boolean))"
_IS_TRACE_ENABLED: Final = "select pgwf.is_trace_enabled()"
_IS_NOTIFY_ENABLED: Final = "select pgwf.is_notify_enabled()"
_SET_THRESHOLD: Final = "select pgwf.set_crash_concern_threshold(p_threshold => cast(:threshold as integer))"
_THRESHOLD: Final = "select pgwf.crash_concern_threshold()"


def set_trace(schema: str, *, enabled: bool) -> Statement[bool]:
    """Switch tracing. Raises InvalidArgument."""
    return statement(schema, _SET_TRACE, {"enabled": require_truth(enabled, "enabled")}, truth)


def set_notify(schema: str, *, enabled: bool) -> Statement[bool]:
    """Switch notifying. Raises InvalidArgument."""
    return statement(schema, _SET_NOTIFY, {"enabled": require_truth(enabled, "enabled")}, truth)


def is_trace_enabled(schema: str) -> Statement[bool]:
    """Whether events are traced."""
    return statement(schema, _IS_TRACE_ENABLED, {}, truth)


def is_notify_enabled(schema: str) -> Statement[bool]:
    """Whether jobs are announced."""
    return statement(schema, _IS_NOTIFY_ENABLED, {}, truth)


def set_crash_concern_threshold(schema: str, threshold: int) -> Statement[int]:
    """Set the threshold. Raises InvalidArgument."""
    parameters: dict[str, object] = {"threshold": require_positive(threshold, "threshold")}
    return statement(schema, _SET_THRESHOLD, parameters, number)


def crash_concern_threshold(schema: str) -> Statement[int]:
    """Return the threshold."""
    return statement(schema, _THRESHOLD, {}, number)
