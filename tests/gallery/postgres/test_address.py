import pytest

from mien.errors import GalleryError
from mien.gallery.postgres.address import Address, is_address


@pytest.mark.parametrize(
    ("text", "conninfo", "schema", "shown"),
    [
        ("postgresql://h/d", "postgresql://h/d", "mien", "postgresql://h/d"),
        ("postgres://h/d?collection=staff", "postgresql://h/d", "mien_staff", "postgresql://h/d?collection=staff"),
        ("postgresql://u:s3cret@h:5433/d", "postgresql://u:s3cret@h:5433/d", "mien", "postgresql://u@h:5433/d"),
        (
            "postgresql://u@/d?host=%2Ftmp%2Fa%20b&collection=a-1&sslmode=require",
            "postgresql://u@/d?host=%2Ftmp%2Fa%20b&sslmode=require",
            "mien_a-1",
            "postgresql://u@/d?collection=a-1",
        ),
        ("postgresql://a,b:5433/d", "postgresql://a,b:5433/d", "mien", "postgresql://a,b:5433/d"),
    ],
)
def test_an_address_is_taken_apart_and_shown_without_its_password(text, conninfo, schema, shown):
    address = Address.parse(text)
    assert (address.conninfo, address.schema, str(address)) == (conninfo, schema, shown)


@pytest.mark.parametrize("name", ["", "Staff", "a b", "x" * 41, "a;drop", "_a", "\u5b89"])
def test_a_collection_with_a_name_that_a_schema_should_not_have_is_refused(name):
    with pytest.raises(GalleryError, match="collection has a name of up to 40"):
        Address.parse(f"postgresql://h/d?collection={name}")


@pytest.mark.parametrize("text", ["postgresql:/h/d", "postgresql://h/d?=&", "postgresql://[h/d"])
def test_what_is_no_address_is_refused_with_an_example(text):
    with pytest.raises(GalleryError, match=r"no address of a database.*postgresql://USER@HOST"):
        Address.parse(text)


def test_a_file_is_no_address():
    assert is_address("postgresql://h/d") and not is_address("people.mien") and not is_address(None)
