"""The models and the code are about the same steps: every access to a shared word is a step of a model, or it is said why not.

A step has a name, `[claim]`, which stands at the access in the kernel and in a model that the kernel file names in its head;
tests/accesses.py says where in the kernel. What is no step of any model is in not_modelled.txt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from accesses import Access, all_accesses, steps_in
from sources import KERNEL, ROOT, kernel_files

MODELS = sorted((ROOT / "models").glob("*.pml"))


@dataclass(frozen=True)
class Unmodelled:
    where: str
    which: str
    why: str

    def covers(self, access: Access, is_last_of_its_kind: bool) -> bool:
        where, _, narrower = self.where.partition(":")
        if narrower and not is_last_of_its_kind:
            return False
        return (where in ("*", access.function, f"{access.file}.pxd")
                and self.which in ("*", access.helper, access.word.rpartition(".")[2]))


def not_modelled() -> list[Unmodelled]:
    rows = []
    for line in (Path(__file__).parent / "not_modelled.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            row = Unmodelled(*(part.strip() for part in line.split("|")))
            assert row.why, f"not_modelled.txt: no reason in {line!r}"
            rows.append(row)
    return rows


def steps_of_model(path: Path) -> set[str]:
    return {step for comment in re.findall(r"/\*.*?\*/", path.read_text(), re.DOTALL) for step in steps_in(comment)}


def steps_of_kernel(path: Path) -> set[str]:
    return {step for line in path.read_text().split("\n") for step in steps_in(line.partition("#")[2])}


def without_step() -> list[tuple[Access, bool]]:
    """Each access that has none, and whether it is the last one with its helper in its function."""
    accesses = all_accesses()
    last = {(each.function, each.helper): each for each in accesses}
    return [(each, last[each.function, each.helper] is each) for each in accesses if not each.steps]


def test_every_access_is_a_step_of_a_model_or_says_why_not():
    rows = not_modelled()
    missing = [str(access) for access, is_last in without_step() if not any(row.covers(access, is_last) for row in rows)]
    assert not missing, "neither a [step] nor a line in not_modelled.txt: " + "; ".join(missing)


def test_every_line_about_what_is_not_modelled_is_about_something():
    found = without_step()
    idle = [row for row in not_modelled() if not any(row.covers(access, is_last) for access, is_last in found)]
    assert not idle, f"not_modelled.txt: nothing is {idle}"


@pytest.mark.parametrize("path", kernel_files(), ids=lambda path: path.stem)
def test_a_step_of_the_kernel_is_one_of_the_models_that_the_file_names(path):
    named = {model for model in MODELS if re.search(rf"\b{model.name}", path.read_text())}
    steps = {step: access for access in all_accesses() if access.file == path.stem for step in access.steps}
    for step, access in steps.items():
        assert any(step in steps_of_model(model) for model in named), f"{access}: no [{step}] in {named}"


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_a_step_of_a_model_is_in_the_kernel(model):
    known = {step for path in KERNEL.glob("*.pxd") for step in steps_of_kernel(path)}
    assert steps_of_model(model) <= known, f"{model.name}: the kernel has no {steps_of_model(model) - known}"


def test_every_model_has_steps():
    assert all(steps_of_model(model) for model in MODELS)
