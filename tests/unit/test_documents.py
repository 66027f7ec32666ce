"""What the documents name exists: commands, paths, pictures."""

import re
from pathlib import Path

import pytest

from hindcast.cli import cli
from tools import reference

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE_BY_RUNNING = (".hindcast", ".venv", "$HINDCAST_HOME")


def code(document: Path) -> list[str]:
    text = document.read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    return [*re.findall(r"`([^`\n]+)`", text), *(line for block in blocks for line in block.splitlines())]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {match for text in code(document) for match in re.findall(r"^\s*make (\w+)", text)}
    assert named - targets == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_named_exists_with_its_options(document: Path) -> None:
    for text in code(document):
        for name, rest in re.findall(r"(?:^|/|\s)hindcast ([a-z]+)((?: [\w./:-]+)*)", text):
            assert name in cli.commands, f"hindcast {name}"
            known = {option for parameter in cli.commands[name].params for option in parameter.opts}
            assert set(re.findall(r"--[\w-]+", rest)) - known - {"--help"} == set(), text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_named_exists(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text())
    paths = [
        text for text in code(document) if re.fullmatch(r"[\w.-]+/[\w./*-]*|[\w-]+\.(?:py|md|yaml|toml|lock)", text)
    ]
    for path in [*links, *paths]:
        if not path.startswith(MADE_BY_RUNNING):
            assert list(ROOT.glob(path.rstrip("/"))) or list(document.parent.glob(path)), f"{document.name}: {path}"


def test_the_reference_is_what_the_command_writes() -> None:
    assert (ROOT / "docs" / "reference.md").read_text() == reference.text()
    assert "|  |\n" not in reference.text()  # every key has a meaning
