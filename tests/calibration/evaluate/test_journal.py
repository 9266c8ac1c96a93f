"""What a killed run leaves behind."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from cfcam.calibration.evaluate import Journal, cached_journal
from cfcam.runtime.errors import OutputError


def test_lines_come_back(tmp_path):
    path = tmp_path / "new" / "journal.jsonl"
    with Journal(path) as journal:
        journal.add("a", {"values": [1.5, None]})
        journal.add("b", {"values": []})
    with Journal(path) as journal:
        assert len(journal) == 2
        assert journal.get("a") == {"values": [1.5, None]}
        assert journal.get("c") is None


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_half_a_last_line_is_cut_off(tmp_path, cut):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add("a", {"values": [1]})
        journal.add("b", {"values": [2]})
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path) as journal:
        assert (len(journal), journal.damaged) == (1, 0)
        journal.add("b", {"values": [3]})
    with Journal(path) as journal:
        assert (journal.get("a"), journal.get("b")) == ({"values": [1]}, {"values": [3]})


def test_other_damage_is_counted_and_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('not json\n{"no": "key"}\n[1]\n{"key": "a", "values": []}\n')
    with Journal(path) as journal:
        assert (len(journal), journal.damaged) == (1, 3)
    assert path.read_text().startswith("not json\n")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match="the journal cannot be opened"):
        Journal(tmp_path)


def test_the_journal_in_the_cache_goes_when_the_run_is_done_and_stays_when_it_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("CFCAM_CACHE", str(tmp_path))
    with suppress(ZeroDivisionError), cached_journal("a") as journal:
        journal.add("one", {"x": 1})
        raise ZeroDivisionError
    with cached_journal("b") as journal:
        assert len(journal) == 0
    with cached_journal("a") as journal:
        assert journal.get("one") == {"x": 1}
        assert journal.path.parent == tmp_path / "journals"
    assert list(tmp_path.rglob("*.jsonl")) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named_while_writing_and_while_closing():
    journal = Journal.__new__(Journal)
    journal.path, journal._known = Path("/dev/full"), {}
    journal._file = journal.path.open("ab+")
    with pytest.raises(OutputError, match=r"/dev/full: cannot be written .No space left"):
        journal.add("a", {"x": 1})
    with pytest.raises(OutputError, match=r"/dev/full: cannot be written .No space left"):
        journal.close()


def test_a_name_that_is_no_text_is_read_again(tmp_path):
    with Journal(tmp_path / "x.jsonl") as journal:
        journal.add("a", {"name": "\udcff.jpg"})
    with Journal(tmp_path / "x.jsonl") as journal:
        assert (journal.damaged, journal.get("a")) == (0, {"name": "\\udcff.jpg"})
