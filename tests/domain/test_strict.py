from typing import Annotated

import pytest
from pydantic import Field

from tasks.domain.strict import ADDED_LATER, Strict, identifying


class Settings(Strict):
    place: str = "here"
    width: int = 3
    quote: Annotated[str, ADDED_LATER] = Field('"', min_length=1)
    types: Annotated[dict[str, str], ADDED_LATER] = Field(default_factory=dict)


def test_a_setting_that_came_later_is_no_part_of_a_digest_until_it_is_set() -> None:
    assert identifying(Settings(), exclude={"place"}) == {"width": 3}
    assert identifying(Settings(quote="'", types={"n": "text"}), exclude={"place"}) == {"width": 3, "quote": "'", "types": {"n": "text"}}


@pytest.mark.parametrize("settings", [{"quote": '"'}, {"types": {}}])
def test_its_default_said_aloud_is_the_default(settings: dict[str, object]) -> None:
    assert identifying(Settings.model_validate(settings), exclude=set()) == identifying(Settings(), exclude=set())
