"""Reports as pages: one for each student, sent as it is, and one of the class for the instructor.

The pages need no script and no other file. Every text of a submission is escaped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from statistics import mean, median

from minires.course.grading import CheckReport, PartReport, SubmissionReport
from minires.gradcheck import CATALOGUE

STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62em; margin: 2em auto; padding: 0 1em}
table {border-collapse: collapse; width: 100%; margin: .5em 0 1.5em}
th, td {text-align: left; vertical-align: top; padding: .25em .6em; border-bottom: 1px solid #ddd}
.n {text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums}
.ok {color: #00734d} .no {color: #b3261e} .part {color: #8a5a00} .quiet {color: #666}
.say {border-left: 4px solid #b3261e; background: #fbefee; padding: .5em .8em}
.bar {display: inline-block; height: .8em; background: #0072b2}
pre {background: #f5f5f5; padding: .6em; overflow-x: auto}
"""

RUNGS = {
    "bubblewrap": "in namespaces of its own (bubblewrap)",
    "user": "as another user, confined by the kernel (Landlock, seccomp)",
    "none": "without isolation, limits of time and memory only",
}


def page(title: str, body: Sequence[str]) -> str:
    """A whole page."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def points(number: float) -> str:
    """3, 2.5, 1.67."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def student_page(report: SubmissionReport) -> str:
    """What one student gets."""
    body = [f"<p><b>{points(report.earned)} of {report.points} points</b></p>"]
    if report.problem:
        body.append(f'<p class="say">{escape(report.problem)}</p>')
    body += [f'<p class="quiet">Note: {escape(note)}</p>' for note in report.notes]
    body += [_part(part) for part in report.parts if not report.problem]  # which is why every check is lost
    body.append(f'<p class="quiet">{escape(report.id)}; run {RUNGS.get(report.rung, report.rung)}.</p>')
    return page(report.title, body)


def _part(part: PartReport) -> str:
    rows = "".join(_check(check) for check in part.checks)
    head = f"<h2>{escape(part.name)}: {points(part.earned)} of {part.points}</h2>"
    return f'{head}<table><tr><th>check</th><th class="n">points</th><th></th></tr>{rows}</table>'


def _check(check: CheckReport) -> str:
    kind = "ok" if check.earned >= check.points else "part" if check.earned else "no"
    title = escape(check.title) + (' <span class="quiet">(hidden)</span>' if check.hidden else "")
    told = "passed" if kind == "ok" else escape(check.told)
    example = f"<br><code>{escape(check.example)}</code>" if check.example else ""
    number = f"{points(check.earned)} / {points(check.points)}"
    return f'<tr><td>{title}</td><td class="n {kind}">{number}</td><td>{told}{example}</td></tr>'


def class_page(reports: Sequence[SubmissionReport], copies: Sequence[tuple[float, str, str]]) -> str:
    """What the instructor gets: how the class did, what it got wrong, who handed in nearly the same."""
    title = f"{reports[0].title}: {len(reports)} submissions" if reports else "no submissions"
    if not reports:
        return page(title, [])
    earned = [r.earned for r in reports]
    body = [
        f"<p>mean {points(mean(earned))}, median {points(median(earned))} of {reports[0].points} points; graded "
        f"{'; '.join(f'{n} {RUNGS.get(rung, rung)}' for rung, n in Counter(r.rung for r in reports).items())}</p>",
        "<h2>Points</h2>",
        _histogram(earned, reports[0].points),
        "<h2>Checks</h2>",
        _success(reports),
        "<h2>What went wrong</h2>",
        _faults(reports),
        "<h2>Nearly identical</h2>",
        _copies(copies),
        "<h2>Everybody</h2>",
        _everybody(reports),
    ]
    return page(title, body)


def _histogram(earned: Sequence[float], most: int) -> str:
    bins = [0] * 11
    for value in earned:
        bins[min(int(10 * value / most), 10)] += 1
    tallest = max(bins)
    rows = []
    for number, count in enumerate(bins):
        low, high = number * most / 10, min((number + 1) * most / 10, most)
        label = points(most) if number == 10 else f"{points(low)} to under {points(high)}"
        bar = f'<span class="bar" style="width: {24 * count / tallest:.1f}em"></span>'
        rows.append(f'<tr><td class="n">{label}</td><td>{bar} {count}</td></tr>')
    return f"<table>{''.join(rows)}</table>"


def _success(reports: Sequence[SubmissionReport]) -> str:
    rows = []
    for number, part in enumerate(reports[0].parts):
        for place, check in enumerate(part.checks):
            passed = sum(r.parts[number].checks[place].earned >= check.points for r in reports)
            share = f'<span class="bar" style="width: {8 * passed / len(reports):.1f}em"></span> {passed}'
            hidden = "hidden" if check.hidden else ""
            cells = f"<td>{escape(part.name)}</td><td>{escape(check.title)}</td><td>{hidden}</td><td>{share}</td>"
            rows.append(f"<tr>{cells}</tr>")
    head = "<tr><th>part</th><th>check</th><th></th><th>passed</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _faults(reports: Sequence[SubmissionReport]) -> str:
    """What is wrong with each part, once a student, the most frequent first."""
    counts: Counter[str] = Counter()
    for report in reports:
        if report.problem:
            counts[report.problem.partition(":")[0]] += 1
            continue
        counts.update(f"{part.name}: {what}" for part in report.parts for what in _wrong_with(part))
    rows = [f'<tr><td class="n">{n}</td><td>{escape(what[:200])}</td></tr>' for what, n in counts.most_common(25)]
    return f"<table>{''.join(rows)}</table>" if rows else "<p>Nothing.</p>"


def _wrong_with(part: PartReport) -> set[str]:
    """The faults that are named; where none is, what the first check with numbers that all students share says."""
    lost = [check for check in part.checks if check.told]
    faults = {c.fault for c in lost if c.fault}
    named = {f"{CATALOGUE[name].sentence} ({name})" if name in CATALOGUE else name for name in faults}
    if named or not lost:
        return named
    plain = next((c for c in lost if c.example), lost[0])
    return {re.sub(r" in \d+ of \d+ entries", "", plain.told)}


def _copies(copies: Sequence[tuple[float, str, str]]) -> str:
    if not copies:
        return "<p>None.</p>"
    rows = [
        f'<tr><td class="n">{share}</td><td>{escape(", ".join(sorted(names)))}</td></tr>'
        for share, names in _groups(copies)
    ]
    told = "Share of the syntax trees in common, whatever names and layout are. A reason to look, no proof."
    return f'<p class="quiet">{told}</p><table>{"".join(rows)}</table>'


def _groups(copies: Sequence[tuple[float, str, str]]) -> list[tuple[str, set[str]]]:
    """Who is alike to this per cent, as one group where pairs have a member in common: of ten copies there are 45."""
    groups: list[tuple[str, set[str]]] = []
    for share, a, b in copies:
        met = [group for group in groups if group[0] == f"{share:.0%}" and group[1] & {a, b}]
        groups = [group for group in groups if group not in met]
        groups.append((f"{share:.0%}", {a, b}.union(*(names for _, names in met))))
    return groups


def _everybody(reports: Sequence[SubmissionReport]) -> str:
    rows = [
        f'<tr><td><a href="reports/{escape(r.id)}.html">{escape(r.id)}</a></td>'
        f'<td class="n">{points(r.earned)}</td><td>{escape(r.problem or "")}</td></tr>'
        for r in sorted(reports, key=lambda r: r.id)
    ]
    return f"<table>{''.join(rows)}</table>"
