"""What is printed to, and what comes of it there."""

from __future__ import annotations

import io

import pytest

from minunet.streams import Stream

COMMANDS = "a\x1b[2J\r\u202eb\x9b\n\tnaïve"


@pytest.mark.parametrize(
    ("escape", "found"), [(True, "a\\x1b[2J\\r\\u202eb\\x9b\n\tnaïve"), (False, COMMANDS)]
)  # fmt: skip
def test_what_could_command_a_terminal_is_escaped_where_that_is_asked_for(escape, found):
    there = io.StringIO(newline="")
    stream = Stream(there, escape=escape)
    assert [stream.write(COMMANDS), stream.write("plain"), stream.n_written, stream.failure] == [len(found), 5, 2, None]
    assert there.getvalue() == found + "plain"
