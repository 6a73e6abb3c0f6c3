"""References are generated from the models that they document; run this file to write them anew.

python tests/test_documents.py
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import client_source
import pytest
from groups import commands_of
from sources import parse, parsed

from lmxd import __version__
from lmxd.__main__ import main as lmxd_main
from lmxd.cli.main import main
from lmxd.config.elastic_keys import ElasticConfig
from lmxd.config.engine import NamedEngineConfig
from lmxd.config.filters import Variant
from lmxd.config.llama_cpp_keys import DraftConfig, LoraConfig, RopeConfig, SamplersConfig
from lmxd.config.profile import Profile
from lmxd.config.quotas import GroupConfig, KeyConfig, UserConfig
from lmxd.config.schema import Config, DeviceConfig
from lmxd.core.books.alarms import AlarmKind
from lmxd.core.reasons import EndReason, RefusalCode
from lmxd.engines.llama_cpp import flags
from lmxd.engines.llama_cpp.flag_table import REFUSALS
from lmxd.errors import EXIT_STATUS
from lmxd.failures import FailureCode
from lmxd.rpc import budgets, outgoing, server
from lmxd.rpc.framing import MAX_FRAME
from lmxd.rpc.methods import METHODS, Method
from lmxd.rpc.notifications import NOTIFICATIONS

ROOT = Path(__file__).parent.parent


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(s) for s in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "")) or "value"


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "required"
    if isinstance(field["default"], dict):
        return "see below" if "$ref" in json.dumps(field) else ""
    default = field["default"]
    return "" if default in (None, []) else str(default).lower() if isinstance(default, bool) else str(default)


def _properties(model: Any) -> dict[str, Any]:
    """The schemas of the fields: those of the class itself before those that it inherits."""
    found: dict[str, Any] = model.model_json_schema().get("properties", {})
    own = [name for name in model.__annotations__ if name in found]
    return {name: found[name] for name in (*own, *(name for name in found if name not in own))}


def _rows(model: Any, *, defaults: bool) -> list[str]:
    rows = []
    for name, field in _properties(model).items():
        default = f" | {_default(field)}" if defaults else ""
        rows.append(f"| `{name}`{default} | {_kind(field)} | {field.get('description', '')} |")
    return rows


SECTIONS: dict[str, Any] = {
    "Top level": Config,
    "gpu": Config.model_fields["gpu"].annotation,
    "one of gpu.devices": DeviceConfig,
    "admission_control": Config.model_fields["admission_control"].annotation,
    "one of users": UserConfig,
    "one of groups": GroupConfig,
    "one of keys": KeyConfig,
    "engine": Config.model_fields["engine"].annotation,
    "one of engines": NamedEngineConfig,
    "metrics": Config.model_fields["metrics"].annotation,
    "gateway": Config.model_fields["gateway"].annotation,
    "one of models": Profile,
    "elastic of a model": ElasticConfig,
    "draft of a model": DraftConfig,
    "one of lora of a model": LoraConfig,
    "rope of a model": RopeConfig,
    "samplers of a model": SamplersConfig,
    "one of variants": Variant,
}


def configuration() -> str:
    text = [
        "# Configuration",
        "",
        "`/etc/lmxd/config.yaml`, of `lmxd --user` `~/.config/lmxd/config.yaml`. Gigabytes are GiB; times",
        "are seconds, or have units: 90s, 10m, 1h30m. `${env.NAME}` in a path, in `command` and in `env` stands for a",
        "variable of the environment of who reads the file. Parts that several models share stand under a key that",
        "begins with `x-`, and are merged by YAML's `<<`: `x-large: &large {context_length: 32768}`, then",
        "`m: {<<: *large}`.",
        "",
        "Unknown keys are refused with the nearest known one; `lmxd check-config` validates without starting;",
        "SIGHUP and `lmxctl reload` read the file again, and a bad one changes nothing.",
        "",
        "Generated from `lmxd/config`.",
    ]
    for title, model in SECTIONS.items():
        text += ["", f"## {title}", "", "| key | default | kind | |", "|---|---|---|---|", *_rows(model, defaults=True)]
    text += [
        "",
        "## engine_flags",
        "",
        "These flags of llama-server may be added to a profile. Their values are checked; a flag that the build at",
        "hand does not have is an error of `lmxd check-config`.",
        "",
        " ".join(f"`{flag}`" for flag in flags.ALLOWED),
        "",
        "Those that a key of the profile says are refused with its name. These are refused with the reason:",
        "",
        "| flags | reason | instead |",
        "|---|---|---|",
        *(
            f"| {' '.join(f'`{flag}`' for flag in f'{row.switches} {row.valued}'.split())} | {row.why} | {row.remedy} |"
            for row in REFUSALS
        ),
        "",
        "A flag that no build up to 11434 has is refused, too: nobody knows what it does to memory and safety.",
    ]
    return "\n".join(text) + "\n"


def _terms(method: Method) -> str:
    """Who may call it, and when it is answered."""
    admin = " Only administrators may call it." if method.admin else ""
    lasting = " It is answered when its effect is written to disk." if method.lasting else ""
    grants = " It may wait in the queue, and gives a lease." if method.grants else ""
    return admin + lasting + grants


def members(listed: type[StrEnum]) -> dict[str, str]:
    """Each value of an enumeration, and the docstring below it."""
    (enum,) = parse(inspect.getsource(listed)).body
    assert isinstance(enum, ast.ClassDef)
    found = {}
    for node, below in pairwise([*enum.body, ast.Pass()]):
        if isinstance(node, ast.Assign):
            said = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            found[str(ast.literal_eval(node.value))] = str(said)
    return found


def _listing(title: str, about: str, listed: type[StrEnum]) -> list[str]:
    rows = [f"| `{value}` | {said} |" for value, said in members(listed).items()]
    return ["", title, "", about, "", "| | |", "|---|---|", *rows]


def protocol() -> str:
    text = [
        "# Protocol",
        "",
        "JSON-RPC 2.0, one JSON object a line, on `/run/lmxd/lmxd.sock`. Methods are `lmxd.NAME`; the prefix may",
        "be left out. `lmxd.describe` returns all of this as JSON Schema. Identity is SO_PEERCRED. Bytes are",
        "integers, times are seconds. Generated from `lmxd/rpc`.",
        "",
        f"A call has at most {MAX_FRAME // 1024} KiB. lmxd has {budgets.MAX_CONNECTIONS} connections, of which",
        f"{budgets.RESERVED_CONNECTIONS} are for administrators. A user may have {budgets.MAX_CONNECTIONS_PER_UID},",
        f"and one for {budgets.PART_OF_FREE} that are free. Users begin their calls by turns. Of a connection",
        f"{server.MAX_IN_FLIGHT} calls are worked on at once, of a user {budgets.MAX_IN_FLIGHT_OF_USER};",
        f"{server.MAX_ON_THEIR_WAY} requests and holds of a connection may be on their way to the queue, and",
        f"{budgets.MAX_ON_THEIR_WAY_OF_USER} of a user. The next call is read when one of these is answered or waits.",
        "The queue alone bounds how many wait. A connection is closed after",
        f"{server.MAX_MALFORMED} frames that are no calls, or when its user has sent",
        f"{budgets.MAX_BUFFERED_OF_USER // 2**20} MiB of calls that are not finished. While more than",
        f"{outgoing.MAX_UNREAD // 1024} KiB of answers wait in lmxd for a client, none of its calls are begun, and it",
        f"is cut off after {outgoing.PATIENCE:.0f} s; of a user, {budgets.MAX_UNREAD_OF_USER // 2**20} MiB may wait.",
        "A client that shuts its sending half down still gets its answers; one that closes has left, and with it its",
        "waiting requests and the leases held by the connection.",
        "",
        "Malformed frames get JSON-RPC's own codes (-32700, -32600, -32601, -32602). All other errors are -32000 with",
        "`data.code`, one of:",
        "",
        ", ".join(f"`{code}`" for code in EXIT_STATUS) + ".",
    ]
    for name, method in METHODS.items():
        text += ["", f"## lmxd.{name}", "", f"{method.sentence}{_terms(method)}"]
        if rows := _rows(method.params, defaults=True):
            text += ["", "| parameter | default | kind | |", "|---|---|---|---|", *rows]
        text += ["", f"Result: {', '.join(f'`{field}`' for field in method.result.model_fields)}"]
    for name, model in NOTIFICATIONS.items():
        about = " ".join((model.__doc__ or "").split())
        text += ["", f"## {name} (notification)", "", about, "", "| field | kind | |", "|---|---|---|"]
        text += _rows(model, defaults=False)
    about = "The `data.code` of a request or a hold that is refused, and the `code` of a plan."
    text += _listing("## Codes of a refusal", about, RefusalCode)
    about = "The `reason` in lmxd.lease_ended, and in `data` of the error `lease_ended`."
    text += _listing("## Reasons of a lease's end", about, EndReason)
    about = "The `data.failure.code` of the error `launch_failed`. It may be the code of an error, too."
    text += _listing("## Codes of a failure", about, FailureCode)
    return "\n".join(text) + "\n"


def _roff(text: str) -> str:
    """Dashes as they are typed, no line that begins as a request does."""
    found = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{found}" if found.startswith((".", "'")) else found


def manual() -> str:
    text = [
        f'.TH LMXD.YAML 5 "November 2026" "lmxd {__version__}" "File Formats"',
        ".SH NAME",
        "lmxd.yaml \\- configuration of lmxd",
        ".SH SYNOPSIS",
        ".I /etc/lmxd/config.yaml",
        ".br",
        ".I ~/.config/lmxd/config.yaml",
        ".SH DESCRIPTION",
        "YAML. Gigabytes are GiB (2**30 bytes); times are seconds, or have units: 90s, 10m, 1h30m. Unknown keys are",
        "refused with the nearest known one. In a path, in command and in env,",
        ".B ${env.NAME}",
        "stands for a variable of the environment of who reads the file. Keys that begin with x\\- hold parts that are",
        "merged elsewhere by YAML's <<.",
        ".B lmxd check\\-config",
        "validates without starting; SIGHUP and",
        ".B lmxctl reload",
        "read the file again, and a bad one changes nothing.",
    ]
    for title, model in SECTIONS.items():
        text += [f".SS {_roff(title)}"]
        for name, field in _properties(model).items():
            default = _default(field)
            known = {"required": "; required", "": "", "see below": ""}.get(default, f"; {default} by default")
            text += [
                ".TP",
                f'.BR {_roff(name)} " ({_roff(_kind(field) + known)})"',
                _roff(field.get("description", "")),
            ]
    flags_named = _roff(" ".join(flags.ALLOWED))
    text += [".SS engine_flags", "Of llama\\-server's own, these may be given:", flags_named]
    text += [".SH SEE ALSO", ".BR lmxd (8),", ".BR lmxctl (1)"]
    return "\n".join(text) + "\n"


def schema() -> str:
    """For editors: JSON Schema of the configuration. What may be left empty, or said in short, is so in it, too."""
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema(), "title": "lmxd"}
    empty = {"type": "null"}
    for field in whole["properties"].values():
        if "$ref" in field:
            field["anyOf"] = [{"$ref": field.pop("$ref")}, empty]
        elif "additionalProperties" in field:
            field["additionalProperties"] = {"anyOf": [field["additionalProperties"], empty]}
            field["type"] = ["object", "null"]
    bare = {"type": ["integer", "string"]}
    devices = whole["$defs"]["GpuConfig"]["properties"]["devices"]["anyOf"][0]
    devices["items"] = {"anyOf": [devices["items"], bare]}
    profile = whole["$defs"]["Profile"]["properties"]
    profile["engine_flags"]["items"] = {"type": ["string", "number", "boolean"]}
    return json.dumps(whole, indent=1) + "\n"


def classes() -> Iterator[tuple[str, str, str, str]]:
    """Every public class of lmxd: its room, its file, its name and its docstring."""
    for path in sorted((ROOT / "lmxd").rglob("*.py")):
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield str(path.parent.relative_to(ROOT)), path.name, node.name, ast.get_docstring(node) or ""


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) ", paragraph)[0].replace("``", "`").replace("|", "\\|")


def glossary() -> str:
    """The words are written by hand, and kept; the classes below them are those of the code, in their own words."""
    text = [(ROOT / "docs/glossary.md").read_text().partition("## Classes")[0].rstrip(), "", "## Classes", ""]
    text += ["Each in the first sentence of its docstring. Generated from the code."]
    shown = ""
    for room, file, name, docstring in classes():
        if room != shown:
            text += ["", f"### {room}", "", "| class | file | |", "|---|---|---|"]
            shown = room
        text += [f"| `{name}` | `{file}` | {_first_sentence(docstring)} |"]
    text += _listing("## Alarms", "The core looks at its state again when one of these is due.", AlarmKind)
    return "\n".join(text) + "\n"


GENERATED = {
    **client_source.SOURCES,
    "docs/glossary.md": glossary,
    "docs/configuration.md": configuration,
    "docs/rpc.md": protocol,
    "contrib/man/lmxd.yaml.5": manual,
    "contrib/config.schema.json": schema,
}


@pytest.mark.parametrize("name", GENERATED)
def test_references_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == GENERATED[name](), "python tests/test_documents.py writes it anew"


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda p: p.name)
def test_documents_name_commands_that_exist(path: Path) -> None:
    for command in re.findall(r"(?:[`(]|\$ |^)lmxctl ([a-z]+)\b", path.read_text(), re.MULTILINE):
        assert command in commands_of(main), f"{path.name}: lmxctl {command}"


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_each_attack_is_held_by_a_test_that_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    rows = re.findall(r"^\| (?!attack|-)(.+?) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) >= 25
    for attack, cell in rows:
        for place, _, name in (found.partition("::") for found in re.findall(r"`([^`]+)`", cell)):
            assert (ROOT / place).is_file(), attack
            assert not name or f"def {name}(" in (ROOT / place).read_text(), f"{attack}: {name}"


def test_the_map_is_of_this_house() -> None:
    """Each path that docs/architecture.md names is there, and each room is named."""
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:lmxd|tests|docs|etc)/[\w./]*)`", page))
    assert len(named) > 30
    assert {path for path in named if not (ROOT / path).exists()} == set()
    rooms = {path.name for path in (ROOT / "lmxd").iterdir() if (path / "__init__.py").exists()}
    assert {room for room in rooms if f"`lmxd/{room}/`" not in page} == set()


def test_every_class_says_what_it_is() -> None:
    silent = {name for _, _, name, docstring in classes() if not docstring}
    assert silent == set()


def test_a_class_is_defined_before_its_fields() -> None:
    """The glossary shows the first sentence alone. Notifications begin with their name on the wire."""
    named = {
        name for _, file, name, docstring in classes() if docstring.startswith("``") and file != "notifications.py"
    }
    assert named == set()


def test_the_glossary_is_of_this_code() -> None:
    """Each public class is in it, and whatever it calls by a class's name is one."""
    names = {name for _, _, name, _ in classes()}
    page = (ROOT / "docs/glossary.md").read_text()
    assert names - set(re.findall(r"`(\w+)`", page)) == set()
    assert {name for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w*)`", page) if name not in names} == set()
    listed = re.findall(r"^\| `(\w+)` \| `\w+\.py` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(names)


_SUBJECTS = re.compile(r"(What|Whatever|Which|Whichever|Who|Whoever|Whose|Whom|Those)\b")


def half_sentences(source: str) -> list[str]:
    """Docstrings, those of constants and attributes among them, that begin with a relative pronoun."""
    return [
        node.value.value
        for node in ast.walk(parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if _SUBJECTS.match(node.value.value)
    ]


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "lmxd").rglob("*.py")),
    ids=lambda p: str(p.relative_to(ROOT / "lmxd")),
)
def test_a_docstring_begins_with_its_subject(path: Path) -> None:
    assert half_sentences(path.read_text()) == []


def test_half_sentences_are_found() -> None:
    source = '''
A = 1
"""What A is."""

def f():
    """Whoever calls it."""

def g():
    """Whole sentences are none."""
'''
    assert half_sentences(source) == ["What A is.", "Whoever calls it."]


LISTED = {
    RefusalCode: "docs/rpc.md",
    EndReason: "docs/rpc.md",
    FailureCode: "docs/rpc.md",
    AlarmKind: "docs/glossary.md",
}
"""Closed lists of words, and the document that explains each word."""


@pytest.mark.parametrize("listed", LISTED, ids=lambda listed: listed.__name__)
def test_a_listed_word_is_explained(listed: type[StrEnum]) -> None:
    said = members(listed)
    assert list(said) == list(listed)
    assert [word for word, sentence in said.items() if not re.fullmatch(r"\w.* .*\.", sentence)] == []
    page = (ROOT / LISTED[listed]).read_text()
    assert [word for word, sentence in said.items() if f"| `{word}` | {sentence} |" not in page] == []


def test_a_refusal_is_an_error() -> None:
    assert set(RefusalCode) <= set(EXIT_STATUS)


def test_the_accuracy_is_that_of_this_estimator() -> None:
    """docs/accuracy.md says what bench/data and the code as it is now come to."""
    written = subprocess.run(
        [sys.executable, str(ROOT / "bench/estimator.py"), "show"], capture_output=True, text=True, timeout=120
    )
    assert written.stdout == (ROOT / "docs/accuracy.md").read_text(), "python bench/estimator.py write"


def named(program: click.Group) -> Iterator[str]:
    """Commands of a program, and those of its groups behind the name of the group."""
    for name, command in commands_of(program).items():
        yield name
        if isinstance(command, click.Group):
            yield from (f"{name} {within}" for within in commands_of(command))


@pytest.mark.parametrize(("page", "program"), [("lmxctl.1", main), ("lmxd.8", lmxd_main)])
def test_the_manual_page_names_every_command(page: str, program: click.Group) -> None:
    text = (ROOT / "contrib/man" / page).read_text().replace("\\-", "-").replace('"', "")
    for name in named(program):
        before, _, last = name.rpartition(" ")
        among = rf"\b{before}[ {{|a-z-]* {last}\b" if before else rf"\b{last}\b"  # {{this | that}} stand for each
        assert re.search(among, text), name


if __name__ == "__main__":
    for name, make in GENERATED.items():
        (ROOT / name).write_text(make())
