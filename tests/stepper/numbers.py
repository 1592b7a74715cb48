"""Every number that a page shows, with the name of the value it claims to be; and the check of that claim."""

import html
import json
import re
from collections import defaultdict
from functools import lru_cache

from tests.stepper.tracer import ROOT, Tracer, cells, same_print


def data_of(page):
    """The JSON inside a page, with its repetitions put back."""
    packed = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))
    return unpacked(packed["data"], packed["kinds"], packed["parts"])


def unpacked(value, kinds, parts):
    """What stands for a part, a list or an object: see minires/stepper/packing.py."""
    match value:
        case [int(n)] if n >= 0:
            return unpacked(parts[n], kinds, parts)
        case [-1, *items]:
            return [unpacked(item, kinds, parts) for item in items]
        case [int(kind), *values]:
            return {key: unpacked(v, kinds, parts) for key, v in zip(kinds[kind], values, strict=True)}
    return value


def claims_of_text(text):
    """(name, printed) of each number in a text."""
    found = re.findall(r'<span class="n" data-ref="(.*?)">(.*?)</span>', text)
    return [(html.unescape(name), html.unescape(printed)) for name, printed in found]


def claims(data, step):
    """(name, printed) of every number of a step: in its text, on its arrows, in its picture, among its variables."""
    yield from claims_of_text(step["text"])
    for arrow in step["arrows"]:
        yield from claims_of_text(arrow["label"])
    line = data["lines"][step["line"]]
    values = [data["values"][number] for number in line["variables"]]
    tables = [panel for group in step["groups"] for panel in group]
    tables += [v | {"ref": f"{line['record']}|{v['name']}|{v['view']}|after"} for v in values if "plane" in v]
    for table in tables:
        for r, row in enumerate(data["planes"][table["plane"]]["rows"]):
            for c, printed in enumerate(row):
                if printed:
                    yield f"{table['ref']}|{r},{c}", printed
    for value in values:
        if "text" in value:
            yield f"{line['record']}|{value['name']}||after", value["text"]


def parsed(claim):
    """record|name|index|when of a number in a text, record|name|view|when|row,column of one in a table."""
    index, *middle = claim.split("|")
    in_table = middle[-2] in ("before", "after") and re.fullmatch(r"\d+,\d+", middle[-1])
    place = tuple(map(int, middle.pop().split(","))) if in_table else None
    when, where = middle.pop(), middle.pop()
    return int(index), "|".join(middle), where, when, place


class Judge:
    """Runs the passes of a page under a tracer of its own and says whether a claim is true."""

    def __init__(self, data, records, run):
        self.records = records
        wanted, names = defaultdict(set), defaultdict(set)
        steps = (step for track in data["tracks"] for step in track["steps"])
        for claim in {claim for step in steps for claim, _ in claims(data, step)}:
            index, name, _, when, _ = parsed(claim)
            file, statement = records[index].function.file, records[index].statement
            wanted[file].add((statement.first, statement.last))
            names[str(ROOT / file), statement.first].add((when, name))
        self.values = Tracer(wanted, names).run(run).values
        self.cells = lru_cache(maxsize=None)(self._cells)

    def value(self, index, name, when):
        record = self.records[index]
        visits = self.values[str(ROOT / record.function.file), record.statement.first]
        return visits[record.visit][when, name]

    def _cells(self, index, name, axes, when):
        return cells(self.value(index, name, when), axes)

    def is_true(self, claim, printed):
        """Whether the op really had this number there, to the printed digits."""
        index, name, where, when, place = parsed(claim)
        value = self.value(index, name, when)
        if place:
            return same_print(printed, value[self.cells(index, name, where, when)[place]])
        if value.dtype.kind == "U":
            return printed == repr(str(value))
        if printed.startswith("("):
            parts = printed.strip("()").split(", ")
            return all(same_print(part, v) for part, v in zip(parts, value, strict=True))
        if printed in ("True", "False"):
            return printed == str(bool(value))
        return same_print(printed, value[tuple(map(int, where.split(",")))] if where else value)
