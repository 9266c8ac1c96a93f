"""Protobuf's wire format, against messages that are written by hand."""

from __future__ import annotations

import io

import pytest
from cfcam.runtime.contract.wire import PastEnd, Wire, WireError


def wire(data: bytes) -> Wire:
    return Wire(io.BytesIO(data), len(data))


#: Field 1 = 300, field 2 = "ab", field 3 = four bytes, field 4 = eight bytes, field 2 = "c".
MESSAGE = bytes([0x08, 0xAC, 0x02, 0x12, 2]) + b"ab" + bytes([0x1D, *range(4), 0x21, *range(8), 0x12, 1]) + b"c"


def test_every_kind_of_field():
    reader = wire(MESSAGE)
    found = list(reader.fields(0, reader.size))
    assert [one.number for one in found] == [1, 2, 3, 4, 2]
    assert found[0].value == 300
    assert [reader.text(one) for one in found if one.number == 2] == ["ab", "c"]


def test_the_last_one_counts_and_absent_ones_have_a_default():
    reader = wire(bytes([0x0A, len(MESSAGE)]) + MESSAGE)
    (whole,) = reader.fields(0, reader.size)
    assert (reader.integer(whole, 1), reader.string(whole, 2)) == (300, "c")
    assert (reader.integer(whole, 9), reader.string(whole, 9)) == (0, "")
    assert reader.integer(whole, 2) == 0  # text is no number
    assert len(list(reader.numbered(whole, 2))) == 2


@pytest.mark.parametrize("size", [1, 2, 4, 6, 10, 18])
def test_a_cut_message_is_past_its_end(size):
    reader = wire(MESSAGE[:size])
    with pytest.raises(PastEnd):
        list(reader.fields(0, reader.size))


@pytest.mark.parametrize(
    ("data", "words"),
    [([0x00], "field number 0"), ([0x0B], "wire type 3"), ([0x08, *[0xFF] * 10], "more than 10 bytes")],
)
def test_what_is_no_message(data, words):
    reader = wire(bytes(data))
    with pytest.raises(WireError, match=words):
        list(reader.fields(0, reader.size))


def test_text_that_is_none():
    reader = wire(bytes([0x12, 1, 0xFF, 0x08, 1]))
    blob, number = reader.fields(0, reader.size)
    with pytest.raises(WireError, match="not UTF-8"):
        reader.text(blob)
    with pytest.raises(WireError, match="no text"):
        reader.text(number)
    with pytest.raises(WireError, match="not a message"):
        list(reader.children(number))
