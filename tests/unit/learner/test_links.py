"""What hangs where is seen to have changed, whichever way."""

from typing import Any

import pytest

from unison.learner.links import Links


def noted(container: Any, *keys: Any) -> Links:
    links = Links()
    for key in keys:
        links.add(container, key)
    return links


def test_links_hold_until_a_place_holds_another_object() -> None:
    first, equal = [1.0], [1.0]
    places: dict[str, Any] = {"a": first, "b": None}
    links = noted(places, "a", "b")
    assert links.hold()
    places["c"] = 3  # was not asked about
    assert links.hold()
    places["a"] = equal  # equal is not the same
    assert not links.hold()
    places["a"] = first
    assert links.hold()


@pytest.mark.parametrize("container", [{0: "x", 1: "y"}, ["x", "y"]])
def test_a_place_that_is_gone_breaks_them(container: Any) -> None:
    links = noted(container, 0, 1)
    assert links.hold()
    del container[1]
    assert not links.hold()


def test_a_place_that_was_never_there_is_an_error() -> None:
    with pytest.raises(LookupError):
        noted({}, "a")


def test_they_follow_a_chain() -> None:
    root: dict[str, Any] = {"below": {"leaf": object()}}
    links = Links()
    links.add(links.add(root, "below"), "leaf")
    root["below"] = dict(root["below"])  # the same leaf, in another dict
    assert not links.hold()


def test_a_place_too_many_breaks_them_where_all_were_noted() -> None:
    options: dict[str, Any] = {"lr": 0.1, "betas": [0.9, 0.99], "eps": 1e-8}
    links = Links()
    links.add_all(options, but=("lr",))
    options["lr"] = 0.2
    assert links.hold()
    options["betas"][0] = 0.8
    assert not links.hold()
    links = Links()
    links.add_all(options)
    options["amsgrad"] = True
    assert not links.hold()
