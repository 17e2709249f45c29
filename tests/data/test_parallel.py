"""Work in threads: results and errors come in the order of the items."""

import pytest

from mvat_hf.data.parallel import map_in_threads


def test_results_come_in_the_order_of_the_items():
    assert map_in_threads(lambda number: number**2, range(500), "squares") == [number**2 for number in range(500)]
    assert map_in_threads(str, [], "nothing") == []


def test_the_first_error_ends_it():
    with pytest.raises(ValueError, match="invalid literal.*'b'"):
        map_in_threads(int, ["1", "2", "b", "3", "a"], "numbers")
