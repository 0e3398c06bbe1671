"""The command line: `run`, `plan`, `status`, `show`, `report`, `grade`, `regrade`, `compare`, `doctor`, `prefetch`."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dartlib.files import RUNS
from dartlib.leases import LeaseHeld
from dartlib.pipeline.execution import scrub
from dartlib.pipeline.notebooks import NotebookError
from dartlib.pipeline.profiles import REHEARSAL, ProfileError, load_profile, with_overrides
from dartlib.pipeline.stages import run_folder
from dartlib.records import RecordError

EXIT_BAD_INPUT = 2
EXIT_IN_USE = 3
EXIT_DISK = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A wrong input is one line on stderr and code 2, never a traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    own, passed = words, []
    if "--" in words:
        own, passed = words[: words.index("--")], list(words[words.index("--") + 1 :])
    options, unknown = _parser().parse_known_args(own)
    if unknown and options.command != "run" or passed and options.command != "run":
        _parser().error(f"unrecognized arguments: {' '.join([*unknown, *passed])}")
    options.passed = [*unknown, *passed]
    try:
        return _dispatch(options, scrub(shlex.join(["dartlib", *words])))
    except LeaseHeld as error:
        return _complain(str(error), EXIT_IN_USE)
    except (ProfileError, NotebookError, RecordError) as error:
        return _complain(str(error), EXIT_BAD_INPUT)
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # also a file system without locks: the message says what to do
        full = f"the disk is full ({error.filename}): free some space and run the same command"
        return _complain(full if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error), EXIT_DISK)


def _dispatch(options: argparse.Namespace, command: str) -> int:
    # Imported where used: `status` answers at once.
    if options.command == "stage":
        from dartlib.pipeline.stage_runner import run_stage

        return run_stage(options.folder, options.stage)
    if options.command == "status":
        from dartlib.pipeline.status import show_status

        name = options.profile if not options.profile.endswith(".yaml") else load_profile(options.profile).name
        return show_status(run_folder(options.run or name, options.runs))
    if options.command == "grade":
        from dartlib.grading import grade_file

        out = options.out or options.file.with_suffix(".graded.jsonl")
        grade_file(options.file, out, lenient=options.lenient, explained=options.explain)
        print(f"written to {out}")
        return 0
    if options.command == "show":
        from dartlib.analysis.tracing import show_figure

        return show_figure(options.figure, options.point, options.run, options.samples)
    if options.command == "regrade":
        from dartlib.sampling.regrading import show_regrading

        return show_regrading(options.pool, diff=options.diff)
    if options.command in ("doctor", "prefetch"):
        from dartlib.pipeline.doctor import prefetch, show_findings

        return prefetch(options.names) if "names" in options else show_findings(options.model, options.sources)
    if options.command == "report":
        from dartlib.pipeline.report import write_report

        folder = Path(options.run).resolve() if os.path.isdir(options.run) else run_folder(options.run)
        out = options.out or Path(f"{folder.name}.html")
        print(f"written to {out} ({write_report(folder, out) / 1e6:.1f} MB)")
        return 0
    if options.command == "compare":
        return _compare(options.results, options.unlike, options.paper)
    settings = [*options.set, *([f"engine={options.engine}"] if options.engine else [])]
    if options.sweep:
        swept = (sweep.partition("=") for sweep in options.sweep)
        settings.append(f"sweep={{{', '.join(f'{target}: [{values}]' for target, _, values in swept)}}}")
    variants = [*options.variant, *([REHEARSAL] if options.rehearse else [])]
    profile = with_overrides(load_profile(options.profile), settings, variants)
    if options.command == "plan":
        from dartlib.pipeline.plan import show_plan

        return show_plan(profile, run_name=options.run, runs=options.runs)
    from dartlib.pipeline.run import run_profile

    return run_profile(profile, run_name=options.run, runs=options.runs, command=command, passed=options.passed)


def _parser() -> argparse.ArgumentParser:
    description = "Run the study's notebooks headlessly."
    parser = argparse.ArgumentParser(prog="dartlib", description=description, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    for name, text in (
        ("run", "run every stage of a profile that is not complete; other options, and all after --, are Snakemake's"),
        ("plan", "say which stages would run, and why"),
        ("status", "say what a run folder holds"),
    ):
        command = add(name, text)
        command.add_argument(
            "profile", help="smoke, laptop, paper, or the path of a YAML file; status: or a run's name"
        )
        command.add_argument("--run", metavar="NAME", help="name of the run folder (default: the profile's name)")
        command.add_argument("--runs", type=Path, default=RUNS, metavar="FOLDER", help="where run folders lie")
        if name == "status":
            continue
        command.add_argument("--engine", help="auto, vllm, local, or http://host:port/v1")
        command.add_argument("--variant", action="append", default=[], metavar="NAME", help="one of the profile's own")
        command.add_argument("--rehearse", action="store_true", help="the profile's variant rehearsal")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="change a profile key, or a notebook's parameter as in 03_training.EPOCHS=2; may be repeated",
        )
        command.add_argument(
            "--sweep",
            action="append",
            default=[],
            metavar="KEY=VALUES",
            help="students for each value of a parameter, 03_training.ROWS=150,600; repeated: for each combination",
        )
    doctor = add("doctor", "check machine, model and data sets, with the fix for each fault")
    doctor.add_argument("--model", default="embedded", help="embedded, a folder, or a Hub id")
    doctor.add_argument(
        "--sources",
        nargs="*",
        metavar="NAME",
        help="also look at these data sets, in the data folder or on the Hub; no name: all",
    )
    fetch = add("prefetch", "fetch data sets (and `embedded`) for machines without a network")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="names of data sets; none: list them")
    grade = add("grade", "judge the responses in a JSON Lines file against their references")
    grade.add_argument("file", type=Path, help="lines with reference_answer and response")
    grade.add_argument("--out", type=Path, metavar="FILE", help="the graded lines (default: beside FILE)")
    grade.add_argument("--lenient", action="store_true", help="the last number counts where no answer is announced")
    grade.add_argument("--explain", action="store_true", help="add the rule that decided and how both sides were read")
    compare = add("compare", "result files of models side by side, with the paper's rows")
    compare.add_argument("results", nargs="+", type=Path, metavar="FOLDER", help="what an evaluation wrote, per model")
    compare.add_argument("--unlike", action="store_true", help="also when the protocols differ; the notes say in what")
    compare.add_argument(
        "--paper", default="DART", metavar="TEXT", help="the paper's rows with this text in their name"
    )
    report = add("report", "a run folder as one HTML file to send: tables, figures down to samples, cards, notebooks")
    report.add_argument("run", help="a run's name, or its folder wherever it lies")
    report.add_argument("--out", type=Path, metavar="FILE", help="the file to write (default: <run>.html here)")
    show = add("show", "the points of a figure; one point: its value, its rows counted again, some of its samples")
    show.add_argument("figure", help="a figure's name in the run, or the path of its picture or sidecar; or README")
    show.add_argument("--point", default="", metavar="LABEL", help="as the list of points calls it")
    show.add_argument("--run", default="", help="name or folder of the run (default: the newest that has the figure)")
    show.add_argument("--samples", type=int, default=3, metavar="N", help="how many samples to print")
    again = add("regrade", "grade the stored responses of a pool by the present grader")
    again.add_argument("pool", type=Path, help="folder of the pool, or the one that holds it")
    again.add_argument("--diff", action="store_true", help="list every flipped verdict with reference and answer")
    stage = add("stage", "run one stage of a run folder (called by the Snakefile)")
    stage.add_argument("folder", type=Path)
    stage.add_argument("stage")
    return parser


def _compare(paths: Sequence[Path], unlike: bool, paper_rows: str) -> int:
    """Print the tables and notes of `compare_results`."""
    from dartlib.evaluation import compare_results

    found = compare_results(paths, unlike=unlike, paper_rows=paper_rows)
    titles = ("scores", "pairs (second minus first, the same items)", "arms over seeds and items", "the paper, percent")
    for title, table in zip(titles, (found.scores, found.pairs, found.arms, found.published), strict=True):
        if len(table):
            print(f"\n{title}\n{table.round(4).to_string(index=title == titles[-1])}")
    print("", *found.notes, sep="\n")
    return 0


def _complain(message: str, code: int) -> int:
    print(f"dartlib: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
