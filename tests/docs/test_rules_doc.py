"""docs/RULES.md says what is so: every example is evaluated, planned, formatted and converted."""

from __future__ import annotations

import datetime
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.explain.report import explain
from profile_actors.rules.explain.wording import render
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "RULES.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
EXAMPLE = re.compile(
    r"```pql\n(.*?)\n((?:where \w+ = [^\n]*\n)*)=> (.*?)\n(?:until (.*?)\n)?runs (.*?)\n```",
    re.DOTALL,
)
EXAMPLES = [match.groups() for match in EXAMPLE.finditer(TEXT)]
PLANS = re.findall(r"```plan\n(.*?)\n\n(.*?)\n```", TEXT, re.DOTALL)
ERRORS = re.findall(r"```text\n(.*?)\n\n(.*?)\n```", TEXT, re.DOTALL)


@cache
def world() -> dict[str, Any]:
    """What the document's programs define; running them checks their assertions."""
    names: dict[str, Any] = {}
    for program in PROGRAMS:
        exec(program, names)
    return names


def test_every_block_is_an_example() -> None:
    assert len(EXAMPLES) == TEXT.count("```pql") > 40
    assert len(PROGRAMS) == TEXT.count("```python") == 4
    assert len(ERRORS) == TEXT.count("```text") == 5
    assert len(PLANS) == TEXT.count("```plan") == 1
    assert sum(program.count("assert ") for program in PROGRAMS) == 4
    assert world()["value"] == 3


@pytest.mark.parametrize(("rule", "where", "value", "until", "runs"), EXAMPLES)
def test_an_example_gives_what_it_says(
    rule: str, where: str, value: str, until: str, runs: str
) -> None:
    names = world()
    schemas = [names["shop"], names["person"]]
    definitions = dict(re.findall(r"where (\w+) = (.*)\n", where))
    given = {
        name: pf.evaluate(text, names["profile"], names["events"], now=names["now"], schema=schemas)
        for name, text in definitions.items()
    }
    found = pf.evaluate(
        rule,
        names["profile"],
        names["events"],
        now=names["now"],
        schema=schemas,
        computed={name: known for name, (known, _) in given.items()},
    )
    expected = None
    if until is not None:
        expected = round(datetime.datetime.fromisoformat(until).timestamp() * 1000)
    assert found == (json.loads(value), expected)
    assert isinstance(found[0], bool) == (value in ("true", "false"))
    assert pf.rule_from_json(pf.rule_to_json(rule)) == pf.format_rule(rule)

    segment, computed = {"rule": pf.SegmentDefinition("rule", rule)}, {}
    if not isinstance(found[0], bool):
        segment, computed = {}, {"rule": pf.ComputedAttribute("rule", rule)}
    computed |= {name: pf.ComputedAttribute(name, text) for name, text in definitions.items()}
    made = plan(
        pf.Catalogue(
            schemas={schema.name: schema for schema in schemas}, segments=segment, computed=computed
        )
    )
    assert runs == ("by rescan" if made.rescans else "incrementally")


def test_examples_of_definitions_are_read() -> None:
    assert sum(where.count("where ") for _, where, *_ in EXAMPLES) == TEXT.count("\nwhere ") == 6


@pytest.mark.parametrize(("rule", "plan"), PLANS)
def test_a_plan_is_explained_as_shown(rule: str, plan: str) -> None:
    schemas = {schema.name: schema for schema in (world()["shop"], world()["person"])}
    text = render(explain(rule, pf.Catalogue(schemas=schemas)))
    assert text == f"rule      {rule}\n{plan}"


@pytest.mark.parametrize(("rule", "message"), ERRORS)
def test_an_error_is_told_as_shown(rule: str, message: str) -> None:
    scope = union_scope([world()["shop"], world()["person"]])
    with pytest.raises(pf.RuleError) as error:
        check(parse(rule), scope, "segment", rule)
    assert str(error.value) == message
