"""Each file of the corpus is refused in a sentence that names it, or read rightly: soon, and in little memory.

Here every third is tried, where CI is set of images, too; `make fuzz`, and the gate, try all.
"""

from __future__ import annotations

import sys

import pytest
from fuzz import corpus
from fuzz.recipe import REFUSED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, links and limits are made as on Linux")


def numbers(kinds, *endings):
    return [i for i, recipe in enumerate(corpus.recipes()) if recipe.kind in kinds and recipe.ending in endings]


@pytest.mark.parametrize(
    "kinds, endings",
    [
        (["model", "checkpoint"], (".safetensors",)),
        pytest.param(["image"], (".tif",), marks=pytest.mark.rare),
        pytest.param(["image"], (".png", ".jpg", ".gif", ".bmp", ".txt"), marks=pytest.mark.rare),
    ],
)
def test_hostile_files_are_refused(kinds, endings):
    found = corpus.judge_all(chosen := numbers(kinds, *endings)[::3])
    assert sorted(found) == chosen
    faults = {corpus.recipes()[i].name: record["fault"] for i, record in found.items() if record["fault"]}
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())


def test_there_are_many_of_each_kind():
    hostile = [recipe.kind for recipe in corpus.recipes() if recipe.becomes == REFUSED]
    assert hostile.count("model") >= 200 and hostile.count("checkpoint") >= 150 and hostile.count("image") >= 100


@pytest.mark.rare
def test_the_corpus_can_be_written_down(tmp_path):
    """But what is no file: of those only the names differ."""
    files = [recipe for recipe in corpus.recipes() if not recipe.place]
    for number, recipe in enumerate(files):
        recipe.put(tmp_path / f"{number}{recipe.ending}")
    assert len(list(tmp_path.iterdir())) == len(files)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2**26
