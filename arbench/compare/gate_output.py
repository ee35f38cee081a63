"""What a gate found, for a terminal, JUnit, a job's summary in Markdown, and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from ..errors import counted
from ..report.number import fitting_unit, text, with_interval
from .gate import Gated, Verdicts

SIGNS = {"REGRESSED": "❌", "INVALID": "⚠️", "NOT_MEASURED": "⚠️", "SUSPECT": "🔶", "AMBIGUOUS": "🔶", "IMPROVED": "🟢"}
QUIET = ("OK", "IDENTICAL")


def headline(found: Verdicts) -> str:
    """ "REGRESSED: 2 REGRESSED, 31 OK", by the exit code."""
    words = {0: "passed", 1: "REGRESSED", 3: "not measured in full"}[found.exit_code]
    counted = ", ".join(f"{count} {name}" for name, count in found.counts.items())
    return f"{words}: {counted or 'no numbers'}"


def row(each: Gated) -> tuple[str, str, str, str, str, str]:
    """Verdict, model, number, baseline, value, change."""
    values = [value for value in (each.baseline, each.value) if value is not None]
    unit, scale = fitting_unit(each.unit, values)
    baseline, value = (
        "-" if number is None else with_interval(number / scale, None, None)[0]
        for number in (each.baseline, each.value)
    )
    change = "" if each.change is None or each.verdict == "IDENTICAL" else f"{text(100 * each.change, 1)} %"
    return each.verdict, each.title, f"{each.metric}{f', {unit}' if unit else ''}", baseline, value, change


def plain(found: Verdicts) -> dict[str, Any]:
    """As JSON."""
    return {
        "schema_version": 1,
        "baseline": found.baseline,
        "run_id": found.run_id,
        "folder": str(found.folder),
        "started": found.started,
        "exit_code": found.exit_code,
        "counts": found.counts,
        "numbers": [
            {
                "verdict": each.verdict,
                "adapter": each.model,
                "setting": each.setting,
                "task": each.task,
                "metric": each.metric,
                "measure": each.measure,
                "baseline": each.baseline,
                "value": each.value,
                "unit": each.unit,
                "change": each.change,
                "nights": each.nights,
                "why": each.why,
            }
            for each in found.numbers
        ],
    }


def markdown(found: Verdicts) -> str:
    """For the summary of a job, or a comment: what needs a look, and the rest folded away."""
    loud = [each for each in found.numbers if each.verdict not in QUIET]
    lines = [f"### arbench gate against `{found.baseline}`: {headline(found)}", ""]
    if loud:
        lines += _table(loud)
    quiet = [each for each in found.numbers if each.verdict in QUIET]
    if quiet:
        lines += ["", f"<details><summary>{counted(len(quiet), 'number')} as they were</summary>", ""]
        lines += [*_table(quiet), "", "</details>"]
    return "\n".join([*lines, "", f"run `{found.run_id}`"]) + "\n"


def _table(numbers: list[Gated]) -> list[str]:
    lines = ["| verdict | model | number | baseline | tonight | change | why |", "|---|---|---|---:|---:|---:|---|"]
    for each in numbers:
        verdict, *cells = row(each)
        shown = [f"{SIGNS.get(verdict, '')} {verdict}".strip(), *cells, each.why]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in shown) + " |")
    return lines


def junit(found: Verdicts) -> bytes:
    """A test suite per model, a test case per number: REGRESSED is a failure, INVALID and NOT_MEASURED errors, what is
    not gated is skipped."""
    kinds: Mapping[str, str] = {
        "REGRESSED": "failure",
        "INVALID": "error",
        "NOT_MEASURED": "error",
        "QUARANTINED": "skipped",
        "NO_BASELINE": "skipped",
    }
    root = ElementTree.Element("testsuites", name=f"arbench gate {found.baseline}")
    for model in dict.fromkeys(each.model for each in found.numbers):
        own = [each for each in found.numbers if each.model == model]
        told = [kinds.get(each.verdict, "") for each in own]
        plural = {"failure": "failures", "error": "errors", "skipped": "skipped"}
        counts = {name: str(told.count(kind)) for kind, name in plural.items()}
        suite = ElementTree.SubElement(root, "testsuite", {"name": model, "tests": str(len(own)), **counts})
        for each, kind in zip(own, told, strict=True):
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"{each.title}.{each.task}", name=_xml(each.metric)
            )
            message = " ".join(part for part in (*row(each)[3:], each.why) if part)
            if kind:
                ElementTree.SubElement(case, kind, type=each.verdict, message=_xml(f"{each.verdict}: {message}"))
            else:
                ElementTree.SubElement(case, "system-out").text = _xml(f"{each.verdict}: {message}")
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _xml(words: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return "".join(char for char in words if char in "\t\n" or ord(char) >= 32)
