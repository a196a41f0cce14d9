"""What strangers wrote is shown on one line, printable and not at length."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minunet.text import MAX_SHOWN, line, printable, short, shown, told


@given(text=st.text())
def test_a_line_can_always_be_printed(text):
    of_paths = (shown(f"/{text}", whole=True), shown(f"/{text[:40]}"))
    for said in (line(text, 40), short(text), short([text, {text: text}]), *of_paths, told(text[:15]), printable(text[:15])):
        assert said.isprintable() and len(said) <= MAX_SHOWN + 3
        said.encode()


@given(text=st.text(st.characters(categories=["L", "N", "P"], exclude_characters="/\\"), max_size=100))
def test_what_can_be_printed_is_told_as_it_is(text):
    assert line(text) == text
    assert shown(f"/folder/{text}.x", whole=True) == f"/folder/{text}.x"
    assert shown(f"/folder/{text}.x") == f"{text}.x"


def test_what_is_long_or_moves_the_cursor():
    assert line("ab" * 10, 8) == "abab...abab" and line("abcdefgh", 8) == "abcdefgh"
    assert line("\x1b[2J\r\n\u202e") == r"\x1b[2J\r\n\u202e"
    assert shown(Path("\udcff.safetensors")) == r"\udcff.safetensors"
    assert shown("/" + "folder/" * 50 + "name", whole=True) == ".../name"
    assert len(short("\x00" * 10**7)) < 300
    assert len(short([[["x" * 10**6] * 10**3] * 10] * 10)) <= MAX_SHOWN + 3
    assert short([1, 2.5, None]) == "[1, 2.5, None]"


def test_of_a_library_the_first_line_is_told():
    assert told(ValueError("one\x1b\ntwo")) == r"one\x1b" and told("") == ""
    assert told("x" * 999) == "x" * 147 + "..."
