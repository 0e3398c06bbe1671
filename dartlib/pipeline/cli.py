"""The command line: `run`, `plan`, `status`, `doctor`, `prefetch`, `regrade`; and `stage`, for the Snakefile."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dartlib.leases import LeaseHeld
from dartlib.pipeline.notebooks import NotebookError
from dartlib.pipeline.profiles import ProfileError
from dartlib.pipeline.stages import RUNS, from_repository, run_folder
from dartlib.records import RecordError

EXIT_BAD_INPUT = 2
EXIT_IN_USE = 3
EXIT_DISK = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A wrong input is one line on stderr and code 2, never a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except LeaseHeld as error:
        return _complain(str(error), EXIT_IN_USE)
    except (ProfileError, NotebookError, RecordError) as error:
        return _complain(str(error), EXIT_BAD_INPUT)
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _complain(f"the disk is full ({error.filename}): free some space and run the same command", EXIT_DISK)


def _dispatch(options: argparse.Namespace) -> int:
    # Imported where used: `status` answers at once.
    if options.command == "stage":
        from dartlib.pipeline.stage import run_stage

        return run_stage(options.folder, options.stage)
    if options.command == "status":
        from dartlib.pipeline.status import show_status

        return show_status(run_folder(options.run, options.runs))
    if options.command == "regrade":
        from dartlib.sampling.regrading import show_regrading

        return show_regrading(options.pool, diff=options.diff)
    if options.command in ("doctor", "prefetch"):
        from dartlib.pipeline.doctor import prefetch, show_findings

        return (
            prefetch(options.names) if options.command == "prefetch" else show_findings(options.model, options.sources)
        )
    settings = [*options.set, *([f"engine={options.engine}"] if options.engine else [])]
    if options.command == "plan":
        from dartlib.pipeline.plan import show_plan

        return show_plan(options.profile, run_name=options.run, runs=options.runs, settings=settings)
    from dartlib.pipeline.run import run_profile

    command = _command_line(options)
    return run_profile(options.profile, run_name=options.run, runs=options.runs, settings=settings, command=command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dartlib", description="Run the study's notebooks headlessly.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "run every stage of a profile that is not complete"),
        ("plan", "say which stages would run, and why"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("profile", help="smoke, laptop, paper, or the path of a YAML file")
        command.add_argument("--run", metavar="NAME", help="name of the run folder (default: the profile's name)")
        command.add_argument("--engine", help="auto, vllm, local, or http://host:port/v1")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="change a profile key, or a notebook's parameter as in 03_training.EPOCHS=2; may be repeated",
        )
        _add_runs(command)
    status = commands.add_parser("status", help="say what a run folder holds")
    status.add_argument("run", help="name of the run folder")
    _add_runs(status)
    doctor = commands.add_parser("doctor", help="check machine, model and data sets, with the fix for each fault")
    doctor.add_argument("--model", default="embedded", help="embedded, a folder, or a Hub id")
    doctor.add_argument(
        "--sources",
        nargs="*",
        metavar="NAME",
        help="also look at these data sets, in the data folder or on the Hub; no name: all",
    )
    fetch = commands.add_parser("prefetch", help="fetch data sets (and `embedded`) for machines without a network")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="names of data sets; none: list them")
    again = commands.add_parser("regrade", help="grade the stored responses of a pool by the present grader")
    again.add_argument("pool", type=Path, help="folder of the pool, or the one that holds it")
    again.add_argument("--diff", action="store_true", help="list every flipped verdict with reference and answer")
    stage = commands.add_parser("stage", help="run one stage of a run folder (called by the Snakefile)")
    stage.add_argument("folder", type=Path)
    stage.add_argument("stage")
    return parser


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--runs", type=Path, default=RUNS, metavar="FOLDER", help="where run folders lie")


def _command_line(options: argparse.Namespace) -> str:
    """The command that repeats this run."""
    parts = ["dartlib", "run", options.profile]
    parts += ["--run", options.run] if options.run else []
    parts += ["--engine", options.engine] if options.engine else []
    parts += [part for setting in options.set for part in ("--set", setting)]
    parts += ["--runs", from_repository(options.runs)] if options.runs != RUNS else []
    return shlex.join(parts)


def _complain(message: str, code: int) -> int:
    print(f"dartlib: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
