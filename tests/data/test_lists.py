import pytest

from mien.data.lists import delimiter_of, existing_name, read_list, text_of
from mien.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "path,subject\na.jpg,amber\n",
        "path;subject\r\na.jpg;amber\r\n",
        "Path, Subject\na.jpg, amber \n",
        "SUBJECT\tPATH\namber\ta.jpg\n",
        "a.jpg,amber\n",
        'a.jpg;"amber"\n\n',
        "path,subject,,\na.jpg,amber,,\n",
    ],
    ids=["plain", "german Excel", "capitals and blanks", "tabs", "no header", "quoted", "empty columns"],
)
def test_a_list_is_read_as_any_program_writes_it(text):
    (row,) = read_list(text, "list.csv", columns=("path", "subject"))
    assert (row.values["path"], row.values["subject"]) == ("a.jpg", "amber")


def test_rows_are_refused_by_their_line():
    with pytest.raises(DataError, match=r"list\.csv line 2: expected 2 values \(path, subject\), got 3\. Put quotes"):
        read_list("path,subject\na,b.jpg,amber\n", "list.csv", columns=("path", "subject"))
    with pytest.raises(DataError, match="needs the columns path and subject, got: path, name"):
        read_list("path,name\na.jpg,amber\n", "list.csv", columns=("path", "subject"))
    with pytest.raises(DataError, match="is empty"):
        read_list("\n", "list.csv", columns=("path", "subject"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_what_is_no_utf8_is_said_to_be_none(encoding):
    with pytest.raises(DataError, match=r"list\.csv is no text in UTF-8\. Save it as a CSV in UTF-8"):
        text_of("path,subject\na.jpg,José\n".encode(encoding), "list.csv")


def test_names_of_files_may_hold_any_bytes():
    assert text_of(b"caf\xe9.jpg,amber", "list.csv", keep_bytes=True) == "caf\udce9.jpg,amber"


def test_a_delimiter_inside_quotes_counts_for_nothing():
    assert delimiter_of('"a,b,c,d";e\n') == ";" and delimiter_of("") == ","


def test_a_backslash_is_a_slash_unless_a_file_is_called_so(tmp_path):
    (tmp_path / "odd\\name.jpg").write_bytes(b"")
    assert existing_name(tmp_path, "sub\\a.jpg") == "sub/a.jpg"
    assert existing_name(tmp_path, "odd\\name.jpg") == "odd\\name.jpg"
