"""The page of the docs is the one that the shapes print."""

from pathlib import Path

import pytest

from holdfast_server.config import reference
from holdfast_server.config.shape import FOREIGN_TOP_LEVEL, SHAPES, TOP_LEVEL_SECTIONS, GatewayShape, Shape

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_in_the_docs_is_up_to_date() -> None:
    assert PAGE.read_text() == reference.page(), (
        "run python -m holdfast_server.config.reference > docs/configuration.md"
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_key_says_what_it_is_for(shape: type[Shape]) -> None:
    for key, info in shape.model_fields.items():
        assert info.description, f"{shape.__name__}.{key}"
        assert info.description.endswith("."), f"{shape.__name__}.{key}"


def test_every_key_stands_on_the_page() -> None:
    page = PAGE.read_text()
    for place, key in reference.documented_keys():
        assert f"| `{key}` |" in page, f"{place}.{key}"
    for section in TOP_LEVEL_SECTIONS:
        assert f"`{section}" in page, section


def test_every_shape_is_on_the_page_and_no_key_means_two_things() -> None:
    assert set(Shape.__subclasses__()) == set(SHAPES)
    assert not set(TOP_LEVEL_SECTIONS) & set(GatewayShape.model_fields)
    assert not FOREIGN_TOP_LEVEL & {*TOP_LEVEL_SECTIONS, *GatewayShape.model_fields}
