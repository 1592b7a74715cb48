"""`minires course`: assignments cut from the engine, and their grading."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minires.commands import CommandError, console, live_display, whole_number

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from minires.course import Assignment, SelfCheck

HELP = "assignments cut from the engine: list, new, build, check, grade, milestones, release"

SECRET = "hidden numbers come from it and the submission's id; choose your own, and keep it"
PLATFORMS = ("gradescope", "nbgrader", "otter", "classroom50", "pytest")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the assignments that come with minires")
    new = actions.add_parser("new", help="a file to start an assignment of your own from")
    new.add_argument("name", help="of the assignment: the file becomes NAME.py")
    build = actions.add_parser("build", help="the student's and the instructor's folder, after the self-check")
    build.add_argument("assignment", help="a name of `list`, or your file my_assignment.py")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write into")
    build.add_argument("--for", dest="platform", choices=PLATFORMS, help="the platform's own package as well")
    build.add_argument("--notebook", action="store_true", help="the stubs as a notebook, too (needs jupytext)")
    build.add_argument("--secret", metavar="TEXT", help=f"goes into the platform's package: {SECRET}")
    build.add_argument("--no-check", action="store_true", help="leave the self-check out")
    check = actions.add_parser("check", help="try an assignment on the reference, the stub and typical mistakes")
    check.add_argument("assignment", nargs="*", help="names or files; all of minires' own by default")
    check.add_argument("--journey", action="store_true", help="all of them in order, each on what was written before")
    grade = actions.add_parser("grade", help="grade one submission, or a class")
    grade.add_argument(
        "submission", nargs="+", type=Path, help="a .py, .ipynb, .zip or folder; a folder of them is a class"
    )
    grade.add_argument("--assignment", "-a", help="the assignment's name or file; by default what the files are called")
    grade.add_argument(
        "--out", type=Path, metavar="DIR", help="where grades.csv, class.html and the reports go (grades)"
    )
    told = "submissions side by side on this machine (1); on several: mpiexec -n N python -m minires course grade ..."
    grade.add_argument("--jobs", type=whole_number(1, 256), metavar="N", help=told)
    grade.add_argument(
        "--feedback", choices=("verdict", "where", "fault"), default="where", help="how much is told (where)"
    )
    grade.add_argument("--secret", metavar="TEXT", help=SECRET)
    milestones = actions.add_parser("milestones", help="what the engine that a student has written so far can do")
    milestones.add_argument("submission", type=Path, help="the folder with the student's files")
    release = actions.add_parser("release", help="write the solution, for after the deadline")
    release.add_argument("assignment", help="a name of `list`, or your file")
    release.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="the folder to write into (here)")
    for action, told in ((check, ", for --journey"), (milestones, "")):
        action.add_argument("--pretrained", type=Path, metavar="FILE", help=f"a ResNet-20's .safetensors{told}")
        action.add_argument("--cifar", type=Path, metavar="DIR", help=f"the folder of test_batch.bin{told}")
    for action in (build, check, grade, milestones):
        action.add_argument("--isolation", choices=("bubblewrap", "user", "none"), help="the best there is by default")
        action.add_argument("--trust", action="store_true", help="run submissions where nothing can isolate them")


def run(args: argparse.Namespace) -> int:
    from minires.course import NoIsolation

    try:
        actions = (_list, _new, _build, _check, _grade, _milestones, _release)
        return {action.__name__[1:]: action for action in actions}[args.action](args)
    except (ValueError, FileNotFoundError, NoIsolation) as error:
        raise CommandError(str(error)) from None


def _list(args: argparse.Namespace) -> int:
    from rich.table import Table

    from minires.course.declaration import journey

    table = Table(title="assignments, in the order of the journey", title_justify="left")
    for column in ("name", "title", "functions", "points"):
        table.add_column(column, overflow="fold")
    for a in journey():
        table.add_row(a.name, a.title, ", ".join(p.name for p in a.parts), str(a.points))
    console().print(table)
    return 0


TEMPLATE = '''"""{title}: an assignment of your own. Build it: python -m minires course build {name}.py --out {name}

A part is a function of minires, "module:function". Its reference, its signature and its docstring are cut from there;
see `python -m minires gradcheck --list` for the ops whose typical faults are known.
"""

from minires.course import Assignment, Part, backward_checks, forward_checks

ASSIGNMENT = Assignment(
    "{name}",
    "{title}",
    "Write the two passes of average pooling. Tell your students here what to do.",
    parts=(
        Part("minires.ops:avg_pool2d_forward", 4, forward_checks("avg_pool2d")),
        Part(
            "minires.ops:avg_pool2d_backward",
            6,
            backward_checks("avg_pool2d"),
            hint="How many windows does one pixel lie under?",
        ),
    ),
    secret="{secret}",  # the hidden numbers come from it: keep it to yourself
)
'''


def _new(args: argparse.Namespace) -> int:
    import secrets

    from minires.files import atomic_write_text

    if not args.name.isidentifier():
        raise CommandError(f"{args.name!r} cannot be the name of a Python file; use letters, digits and _")
    path = Path(f"{args.name}.py")
    if path.exists():
        raise CommandError(f"{path} exists already; choose another name, or build it as it is")
    title = args.name.replace("_", " ").capitalize()
    atomic_write_text(path, TEMPLATE.format(name=args.name, title=title, secret=secrets.token_hex(8)))
    print(f"{path}: change it, then run: python -m minires course build {path} --out {args.name}")
    return 0


def _build(args: argparse.Namespace) -> int:
    from minires.course import build, load

    a = _with_secret(load(args.assignment), args.secret)
    if not args.no_check and _self_checks([a], args):
        return 1
    files = build(a, args.out, args.notebook)
    if args.platform:
        from minires.course.platforms import package

        files += package(a, args.platform, args.out / args.platform)
    for file in files:
        print(file)
    return 0


def _check(args: argparse.Namespace) -> int:
    from minires.course import load
    from minires.course.declaration import journey

    if args.journey:
        from minires.course.journey import walk

        return walk(console(), rung=args.isolation, trust=args.trust, pretrained=args.pretrained, cifar=args.cifar)
    chosen = [load(what) for what in args.assignment] if args.assignment else journey()
    return _self_checks(chosen, args)


def _self_checks(assignments: list[Assignment], args: argparse.Namespace) -> int:
    """Runs the self-checks and prints their table and what does not hold; the exit code."""
    from rich.console import Console
    from rich.table import Table

    from minires.course import check

    found: list[SelfCheck] = []
    with Console(stderr=True).status("checking") as status:
        for a in assignments:
            found.append(
                check(
                    a,
                    rung=args.isolation,
                    trust=args.trust,
                    progress=lambda what, a=a: status.update(f"{a.name}: {what}"),
                )
            )
    table = Table(title="self-check", title_justify="left")
    table.add_column("assignment")
    for column in ("reference", "stub", "mistakes", "cost their part", "and no other", "named"):
        table.add_column(column, justify="right")
    for c in found:
        trials, known = c.trials, [t for t in c.trials if t.named_is_asked]
        numbers = (sum(t.lost > 0 for t in trials), sum(not t.elsewhere for t in trials))
        named = f"{sum(t.named for t in known)} of {len(known)}"
        reference = f"{c.reference.earned:g} of {c.reference.points}"
        table.add_row(c.assignment, reference, f"{c.stub.earned:g}", str(len(trials)), *map(str, numbers), named)
    console().print(table)
    for c in found:
        for problem in c.problems:
            print(f"{c.assignment}: {problem}")
    return 0 if all(c.holds for c in found) else 1


def _grade(args: argparse.Namespace) -> int:
    from minires.parallel.sweep import lead_all_ranks

    return lead_all_ranks(lambda executor: _grade_class(args, executor), args.jobs)


def _grade_class(args: argparse.Namespace, executor: Executor | None) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from minires.course.classroom import find, grade_class, passed_over
    from minires.course.pages import points

    for path in args.submission:
        if not path.exists() and not path.is_symlink():
            raise CommandError(f"there is no submission {path}")
    a = _assignment_of(args)
    a = _with_secret(a, args.secret)
    found = find(args.submission)
    out = args.out or Path("grades")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with live_display(*columns) as bar:
        task = bar.add_task(a.name, total=len(found))
        reports = grade_class(
            a,
            found,
            out,
            jobs=args.jobs or 1,
            executor=executor,
            level=args.feedback,
            rung=args.isolation,
            trust=args.trust,
            progress=lambda report, fresh: bar.advance(task),
        )
    for report in reports:
        print(
            f"{report.id}: {points(report.earned)} of {report.points}"
            + (f"  ({report.problem})" if report.problem else "")
        )
    if others := passed_over(args.submission):
        print(f"no submissions, by their names: {', '.join(path.name for path in others)}")
    print(f"{out}/grades.csv, {out}/class.html, {out}/reports")
    return 0


def _with_secret(a: Assignment, secret: str | None) -> Assignment:
    if secret is None:
        return a
    if a.file:
        raise CommandError(f"{Path(a.file).name} has a secret of its own: set secret=... there, without --secret")
    return replace(a, secret=secret)


def _milestones(args: argparse.Namespace) -> int:
    from minires.course.journey import milestones

    if not args.submission.exists():
        raise CommandError(f"there is no submission {args.submission}")
    if (args.pretrained is None) != (args.cifar is None):
        raise CommandError("--pretrained and --cifar go together: the weights, and the images to try them on")
    out = console()
    with out.status("training with the parts of the student, which takes a few minutes"):
        options = {"rung": args.isolation, "trust": args.trust, "pretrained": args.pretrained, "cifar": args.cifar}
        found = milestones(args.submission, **options)
    for each in found:
        out.print(
            f"{'reached' if each.reached else 'missed'}: {each.name}: {each.before}; {each.after}", highlight=False
        )
    return 0 if all(each.reached for each in found) else 1


def _assignment_of(args: argparse.Namespace) -> Assignment:
    from minires.course import ORDER, load

    if args.assignment:
        return load(args.assignment)
    names = {
        p.stem for path in args.submission for p in ([path] if path.is_file() else path.rglob("*")) if p.stem in ORDER
    }
    if len(names) != 1:
        what = f"could be {', '.join(sorted(names))}" if names else "have no assignment's name"
        raise CommandError(f"the files {what}; say which assignment with --assignment")
    return load(names.pop())


def _release(args: argparse.Namespace) -> int:
    from minires.course import load
    from minires.course.building import solution_text
    from minires.files import atomic_write_text

    a = load(args.assignment)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{a.name}_solution.py"
    atomic_write_text(path, solution_text(a))
    print(path)
    return 0
