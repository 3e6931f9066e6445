"""References leave arguments, and objects take their places."""

from typing import Any

import pytest

from unison.learner_group.ray.references import fill, lift


class Reference:
    def __init__(self, thing: Any) -> None:
        self.thing = thing


def there_and_filled(value: Any) -> Any:
    lifted: list[Any] = []
    left = lift(value, lambda item: isinstance(item, Reference), lifted)
    assert "Reference" not in repr(left)
    return fill(left, [reference.thing for reference in lifted])


@pytest.mark.parametrize("value", [1, "text", None, [1, [2]], (1, 2), {"a": {"b": 1}}])
def test_what_holds_no_reference_stays_as_it_is(value: Any) -> None:
    assert there_and_filled(value) == value
    assert type(there_and_filled(value)) is type(value)


def test_objects_take_the_places_of_their_references() -> None:
    assert there_and_filled(Reference({"a": 1})) == {"a": 1}
    assert there_and_filled({"a": Reference([1]), "b": [2]}) == {"a": [1], "b": [2]}


def test_lists_of_episodes_are_spliced_in() -> None:
    assert there_and_filled([Reference([1, 2]), 3, [4], Reference(5)]) == [1, 2, 3, [4], 5]
    assert there_and_filled((Reference([1]), Reference([2]))) == [1, 2]
