"""The docs say what is so: the diagram is the table's, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from holdfast_store.model.lifecycle import diagram

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("examples/*/README.md")]
)


def test_the_state_diagram_in_the_docs_is_the_one_that_the_table_draws() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.search(r"```mermaid\n(.*?)```", page, re.DOTALL)
    assert drawn is not None
    assert drawn[1] == diagram()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_docs_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_folder_of_the_machine_it_was_written_on(page: Path) -> None:
    assert re.findall(r"/(?:root|work|home|Users)/\w+", page.read_text()) == []
