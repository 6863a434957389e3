"""Experts of a user's own code: whatever they do wrong becomes one line that names them."""

import pytest
import torch

from duotrack.errors import InputError
from duotrack.fusion.choose import open_expert
from duotrack.fusion.expert import Expert
from duotrack.fusion.user_code import imported, refusals_named

CODE = """
import torch

def raises(rgb, aux):
    raise ValueError("no luck\\nand more")

def silent(rgb, aux):
    raise KeyError

def one(rgb):
    return rgb

def deep(rgb, aux):
    return rgb @ torch.zeros(3, 3)

def writes(rgb, aux):
    return rgb.zero_() + aux.zero_().mean(1, keepdim=True)

def odd(rgb, aux):
    return rgb
odd.divisor = 0
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def images():
    return torch.rand(1, 3, 8, 9), torch.rand(1, 1, 8, 9)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("raises", "raised ValueError at mine.py:5: no luck; mend it"),
        ("silent", "raised KeyError at mine.py:8; mend it"),
        ("one", "raised TypeError: one() takes 1 positional argument"),
        ("deep", "raised RuntimeError at mine.py:14: "),
    ],
)
def test_what_an_expert_raises_is_one_line_with_its_name_and_place(code, name, what):
    expert = open_expert(f"{code}:{name}")
    with pytest.raises(InputError) as caught:
        expert(*images())
    assert str(caught.value).startswith(f"expert {code}:{name} {what}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["def f(:", "import no_such_module_anywhere", "raise RuntimeError('at import')"])
def test_code_that_cannot_be_imported_is_named(tmp_path, text):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError, match=r"broken\.py raised (SyntaxError|ModuleNotFoundError|RuntimeError)"):
        imported(f"{path}:f")


@pytest.mark.parametrize("name", ["..:f", ".a:f", "a..b:f", "a b:f", ":f", "a:", "a"])
def test_what_names_no_module_is_refused_before_it_is_looked_for(name):
    with pytest.raises(InputError, match="is not MODULE:FUNCTION"):
        imported(name)


@pytest.mark.parametrize("divisor", [0, -1, "x", 1.5, None, 10**9])
def test_a_divisor_is_a_small_whole_number(divisor):
    with pytest.raises(InputError, match=r"expert e wants .* whole number from 1 to 1024"):
        Expert("e", lambda rgb, aux: rgb, divisor=divisor)


def test_the_divisor_of_a_users_function_is_checked_too(code):
    with pytest.raises(InputError, match="multiples of 0;"):
        open_expert(f"{code}:odd")


@pytest.mark.parametrize("where", ["meta", "sparse"])
def test_tensors_without_plain_values_are_refused(where):
    expert = Expert("e", lambda rgb, aux: rgb.to("meta") if where == "meta" else rgb.to_sparse())
    with pytest.raises(InputError, match="expert e returned a tensor without plain values"):
        expert(*images())


def test_what_an_expert_writes_into_its_images_reaches_nobody_else(code):
    rgb, aux = images()
    before = rgb.clone(), aux.clone()
    open_expert(f"{code}:writes")(rgb, aux)
    assert torch.equal(rgb, before[0])
    assert torch.equal(aux, before[1])


def test_errors_of_this_package_pass_as_they_are():
    with pytest.raises(InputError, match=r"^as it is$"), refusals_named("x"):
        raise InputError("as it is")
