"""The command `hindcast check`."""

import sys

import click

from hindcast.artefacts import to_json
from hindcast.settings import Settings


@click.command()
@click.argument("problem", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def check(problem: str | None, as_json: bool) -> None:
    """Look for faults in the files of PROBLEM, or of all problems: in seconds, without running anything."""
    from hindcast.checking import check as checks
    from hindcast.home import prepare
    from hindcast.workspace import choose_problem

    settings = Settings.from_environment()
    prepare(settings)  # first: numpy reads the home's environment when it is loaded
    if problem:
        names = [choose_problem(settings, problem).problem]
    else:
        names = sorted(path.stem for path in settings.problems_folder.glob("*.yaml"))
    found = checks.check(settings, names)
    if as_json:
        listed = [{"file": str(fault.file), "key": fault.key, "what": fault.what} for fault in found.faults]
        click.echo(to_json({"problems": list(found.problems), "faults": listed}), nl=False)
    else:
        for fault in found.faults:
            click.echo(str(fault))
        if not found.faults:
            click.echo(f"No faults in {', '.join(found.problems)}.")
    sys.exit(1 if found.faults else 0)
