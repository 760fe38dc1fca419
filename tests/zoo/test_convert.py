from mien.zoo.convert import convert


def test_without_a_conversion_the_bytes_stay():
    assert convert("", b"as it is") == b"as it is"
