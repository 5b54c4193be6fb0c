"""The commands by name. Each is imported when it is used, so that `millstream --help` is quick."""

from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from millstream.cli.failure import CommandFailed
from millstream.cli.output import error_console, print_error

_COMMANDS = {
    "serve": ("millstream.cli.serve:serve", "Run the server."),
    "demo": (
        "millstream.cli.demo.command:demo",
        "Put thousands of real jobs and messages through a server and check every result.",
    ),
    "job": ("millstream.cli.job:commands", "Enqueue, list, inspect, retry and cancel jobs."),
    "queue": ("millstream.cli.queue:commands", "Configure, pause, resume and inspect queues."),
    "schedule": (
        "millstream.cli.schedule:commands",
        "Create, list, pause, resume, trigger and delete schedules.",
    ),
    "topic": ("millstream.cli.topic:commands", "Create topics, publish to them and read them."),
    "group": ("millstream.cli.group:commands", "See how far consumer groups are, and send them back."),
    "worker": ("millstream.cli.worker:commands", "See who works."),
    "workflow": ("millstream.cli.workflow:commands", "Create, list, show, cancel and retry workflows."),
    "db": ("millstream.cli.db:commands", "Reach and migrate the database."),
    "bench": ("millstream.cli.bench.command:bench_app", "Measure this machine."),
    "doctor": ("millstream.cli.doctor:doctor", "Check this machine, the data directory and the database."),
}


def application() -> App:
    """Build the command tree."""
    app = App(
        name="millstream",
        help="One durable-work server on PostgreSQL: jobs, topics and workflows.",
        version=lambda: version("millstream"),
        error_console=error_console,
        help_format="plaintext",
    )
    for name, (target, help_line) in _COMMANDS.items():
        app.command(target, name=name, help=help_line)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command. Returns 0, 1 (failed) or 2 (not understood)."""
    as_json = "--json" in arguments
    try:
        result = application()(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        print_error(str(error), "millstream COMMAND --help tells what there is.", as_json=as_json)
        return 2
    except CommandFailed as failure:
        print_error(failure.message, failure.remedy, as_json=as_json)
        return 1
    return result if isinstance(result, int) else 0
