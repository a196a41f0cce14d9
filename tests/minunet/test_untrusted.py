"""Text of strangers: parsed within bounds, shown on one line."""

import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet import untrusted
from minunet.untrusted import RefusedError, check_fields, check_names, parse

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(), plain, max_size=4))
def test_what_python_writes_is_read(value):
    assert parse(json.dumps(value)) == value


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_taken_where_it_may_be(name):
    assert repr(parse(f'{{"a": {name}}}', nan=True)["a"]) == repr(float(name))
    with pytest.raises(RefusedError, match=f"it holds {name}, which is no number of JSON's"):
        parse(f'{{"a": {name}}}')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON: Expecting value"),
        ("[]", "no JSON object"),
        ("3", "no JSON object"),
        ("null", "no JSON object"),
        ('{"a": 1} x', "no JSON: Extra data"),
        ('{"a": 1', "no JSON"),
        ('{"a": 1,}', "no JSON"),
        ('{"a": "\x1b[31m"}', "no JSON: Invalid control character"),
        ('{"a": "\x00"}', "no JSON: Invalid control character"),
        ('{"a": \x00 1}', "no JSON"),
        ("\ufeff{}", "outside ASCII"),
        ('{"a": "\u202e"}', "outside ASCII"),
        ('{"a": "\xe9"}', "outside ASCII"),
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' stands more than once"),
        ('{"a": 1, "\\u0061": 2}', "the key 'a' stands more than once"),
        ('{"x": [{"y": {"b\\u001b": 1, "b\\u001b": 1}}]}', r"the key 'b\\x1b' stands more than once"),
        ('{"a": ' + "9" * 401 + "}", "a whole number of 401 digits; up to 400 are read"),
        ('{"a": -' + "9" * 10**6 + "}", "a whole number of 1000001 digits"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "no JSON: .*recursion"),
        ('{"a": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}", "no JSON: .*recursion"),
        ('{"a": [' + "[]," * 9000 + "[]]}", r"too much for a model: '\[' occurs 9002 times; up to 8192 are read"),
        ('{"a": [' + "{}," * 9000 + "{}]}", "too much for a model: '{' occurs 9002 times"),
        ('{"a": [' + '"",' * 20000 + '""]}', "too much for a model: '\"' occurs 40004 times"),
        ('{"a": "' + "\\n" * 40000 + '"}', r"too much for a model: '\\\\' occurs 40000 times"),
        ('{"a": [' + "0," * 800_000 + "0]}", "too much for a model: ',' occurs 800000 times"),
    ],
)  # fmt: skip
def test_what_is_refused(text, says):
    with pytest.raises(RefusedError, match=says) as error:
        parse(text)
    assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_the_bounds_themselves_are_read():
    for opening, closing in ("[]", "{}"):
        inner = ",".join([opening + closing] * (untrusted.MOST[opening] - 1))
        assert len(parse('{"a": [' + inner + "]}" if opening == "{" else '{"a": ' + f"[{inner}]" + "}")["a"]) > 8000
    assert parse('{"a": ' + "9" * 400 + "}")["a"] == 10**400 - 1


@pytest.mark.parametrize("unit", ["1e1,", "123456789,", "0,"])
def test_as_many_numbers_as_are_taken_cost_little(unit):
    text = '{"a":[' + unit * (untrusted.MOST[","] - 1) + "0]}"
    started = time.perf_counter()
    parse(text)
    assert time.perf_counter() - started < 3  # on a busy machine
    tracemalloc.start()
    parse(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20


def test_names_and_fields():
    check_names("a", {"x": 1, "y": 2}, ("x", "y", "z"), optional=("z",))
    with pytest.raises(RefusedError, match=r"^a\.q is unknown; it takes x, y$"):
        check_names("a", {"x": 1, "q": 2}, ("x", "y"))
    with pytest.raises(RefusedError, match=r"^a\.y is missing$"):
        check_names("a", {"x": 1}, ("x", "y"))
    with pytest.raises(RefusedError, match=r"^y is missing$"):
        check_names("", {"x": 1}, ("x", "y"))
    table = {"n": untrusted.WHOLE, "kind": untrusted.one_of(("a", "b"))}
    check_fields("it", {"n": 0, "kind": "a"}, table)
    for given_, says in [
        ([], r"^it is \[\]; it takes an object with n, kind$"),
        ({"n": True, "kind": "a"}, r"^it\.n is True, of type bool; it takes a whole number from 0 up$"),
        ({"n": -1, "kind": "a"}, r"^it\.n is -1, of type int"),
        ({"n": 1.0, "kind": "a"}, r"^it\.n is 1\.0, of type float"),
        ({"n": 1, "kind": ["a"]}, r"^it\.kind is \['a'\], of type list; it takes 'a' or 'b'$"),
        ({"n": 1, "kind": "c"}, r"^it\.kind is 'c', of type str; it takes 'a' or 'b'$"),
    ]:
        with pytest.raises(RefusedError, match=says):
            check_fields("it", given_, table)


@pytest.mark.parametrize(
    ("value", "number", "whole"),
    [
        (1, True, True), (0.5, True, False), (float("nan"), True, False), (True, False, False), ("1", False, False),
        (None, False, False), (10**400, False, True), (2**1000, True, True), (-(2**1000), True, True),
    ],
)  # fmt: skip
def test_numbers(value, number, whole):
    assert (untrusted.is_number(value), untrusted.is_whole(value)) == (number, whole)
