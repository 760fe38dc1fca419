import io
import os
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mien.errors import ImageError
from mien.images import Limits, decode, digest, encode_image, find_images, load_image, printable, save_image


@pytest.fixture
def scene():
    """A picture without symmetry: red to the right, green downwards, a blue corner."""
    y, x = np.mgrid[:40, :60]
    image = np.stack([x * 4, y * 6, np.zeros_like(x)], axis=-1).astype(np.uint8)
    image[:10, :10] = (0, 0, 255)
    return image


def encoded(picture, fmt, **options):
    buffer = io.BytesIO()
    picture.save(buffer, fmt, **options)
    return buffer.getvalue()


def png_header(width, height, *, num_bytes=0):
    """A PNG that claims a size and has next to no data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(num_bytes))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_lossless_picture_comes_back_exactly(scene, fmt):
    assert np.array_equal(load_image(encoded(Image.fromarray(scene), fmt)), scene)


@pytest.mark.parametrize("fmt", ["JPEG", "WEBP"])
def test_a_lossy_picture_comes_back_nearly(scene, fmt):
    image = load_image(encoded(Image.fromarray(scene), fmt, quality=95))
    assert np.abs(image.astype(int) - scene).mean() < 8


def test_path_bytes_file_pillow_and_array_give_the_same_picture(scene, tmp_path):
    path = tmp_path / "scene.png"
    path.write_bytes(encoded(Image.fromarray(scene), "PNG"))
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), file, Image.open(path), scene]
        for source in sources:
            assert np.array_equal(load_image(source), scene)


def test_the_result_may_be_drawn_on(scene):
    image = load_image(encoded(Image.fromarray(scene), "PNG"))
    image[0, 0] = 7
    assert image.flags.c_contiguous


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(scene, orientation, fmt):
    # What a camera held that way would have stored, so that undoing it gives the scene again.
    store = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 95} if fmt == "JPEG" else {"lossless": True} if fmt == "WEBP" else {})
    data = encoded(Image.fromarray(np.ascontiguousarray(store(scene))), fmt, **options)

    result = decode(data)

    assert (result.height, result.width) == result.image.shape[:2] == scene.shape[:2]
    assert np.abs(result.image.astype(int) - scene).mean() < 8


def test_a_damaged_exif_note_does_not_cost_the_picture(scene):
    data = encoded(Image.fromarray(scene), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert load_image(data).shape == scene.shape


def test_grey_becomes_three_equal_channels(scene):
    image = load_image(encoded(Image.fromarray(scene[..., 0]), "PNG"))
    assert np.array_equal(image, np.repeat(scene[..., :1], 3, axis=2))


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(fmt):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    image = load_image(encoded(Image.fromarray(ramp), fmt))
    assert np.array_equal(image[..., 0].ravel(), np.arange(256))


def test_sixteen_bit_colour_is_scaled_not_clipped():
    raw = struct.pack(">6H", 0xFFFF, 0x8000, 0x0000, 0x1234, 0xABCD, 0x00FF)
    image = load_image(b"P6 2 1 65535\n" + raw)
    assert np.allclose(image, [[[255, 128, 0], [0x12, 0xAB, 1]]], atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode):
    picture = Image.new(mode, (2, 1), 0)
    picture.putpixel((0, 0), (10, 20, 30, 255) if mode == "RGBA" else (10, 255))
    image = load_image(encoded(picture, "PNG"))
    assert image[0, 1].tolist() == [255, 255, 255]
    assert image[0, 0, 0] == 10


def test_a_palette_is_looked_up(scene):
    picture = Image.fromarray(scene).quantize(16)
    assert np.array_equal(load_image(encoded(picture, "PNG")), np.asarray(picture.convert("RGB")))


def test_the_transparent_entry_of_a_palette_is_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    image = load_image(encoded(picture, "PNG", transparency=1))
    assert image[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_cmyk_jpeg_is_not_inverted():
    # Pillow writes CMYK as Adobe does, inverted, with the marker that says so.
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = load_image(encoded(picture, "JPEG", quality=95))[8, 8]
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(fmt):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:], **options)
    assert load_image(data)[5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_picture_is_converted_like_a_small_one(rng, mode):
    tile = Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)).convert(mode)
    large = tile.resize((2000, 2050), Image.Resampling.NEAREST)
    assert np.array_equal(load_image(large), np.asarray(large.convert("RGB")))


def test_one_pixel_is_a_picture():
    assert load_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


def test_a_colour_profile_is_applied(scene):
    # A profile with red and green primaries exchanged: what was stored as red is meant as green.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {bytes(profile[i : i + 4]): i for i in range(132, 132 + 12 * profile[131], 12)}
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    other = bytes(profile).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be")).replace(b"sRGB", b"test")
    image = load_image(encoded(Image.new("RGB", (4, 4), (255, 0, 0)), "PNG", icc_profile=other))
    assert image[0, 0, 1] > 200 > 60 > image[0, 0, 0]


def test_a_damaged_profile_is_passed_over(scene):
    data = encoded(Image.fromarray(scene), "PNG", icc_profile=b"no profile at all")
    assert np.array_equal(load_image(data), scene)


@pytest.mark.parametrize(("at_least", "scale"), [(400, 1.0), (200, 0.5), (90, 0.25), (1, 0.125)])
def test_a_jpeg_is_reduced_no_further_than_asked(at_least, scale):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (400, 200), "teal"), "JPEG", exif=exif)
    result = decode(data, at_least=at_least)
    assert (result.scale, result.width, result.height) == (scale, 200, 400)
    assert result.image.shape == (400 * scale, 200 * scale, 3)


def test_only_a_jpeg_is_reduced(scene):
    assert decode(encoded(Image.fromarray(scene), "PNG"), at_least=1).scale == 1.0


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_picture_cut_short_is_refused(rng, fmt, part):
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), fmt)
    with pytest.raises(ImageError, match=r"damaged or cut short|no picture"):
        load_image(data[: int(len(data) * part)])


def test_noise_behind_a_valid_header_never_escapes_as_another_error(rng):
    for fmt in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"):
        whole = encoded(Image.new("RGB", (32, 32), "olive"), fmt)
        for _ in range(30):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), 8):
                data[at] = rng.integers(0, 256)
            try:
                assert load_image(bytes(data)).dtype == np.uint8
            except ImageError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"just some text", "no picture that mien knows"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that mien knows"),
        (png_header(20_000, 20_000), "larger than 178 Mpx|20000 x 20000 px"),
        (png_header(40_000, 10), "the limit is 30000 px a side"),
        (png_header(12_000, 12_000), "decompression bomb"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "pip install pillow-heif"),
    ],
    ids=["empty", "text", "postscript", "huge", "long", "bomb", "heic"],
)
def test_what_is_no_safe_picture_is_refused_in_one_line(monkeypatch, data, message):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=message) as caught:
        load_image(data)
    assert "\n" not in str(caught.value)


def test_heic_is_read_where_its_plugin_is(monkeypatch):
    asked = []

    class Plugin:
        @staticmethod
        def register_heif_opener():
            asked.append(True)

    monkeypatch.setitem(sys.modules, "pillow_heif", Plugin)
    with pytest.raises(ImageError):
        load_image(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic")
    assert asked


def test_limits_may_be_narrower(scene):
    data = encoded(Image.fromarray(scene), "PNG")
    with pytest.raises(ImageError, match="60 x 40 px"):
        load_image(data, limits=Limits(max_side=50))
    with pytest.raises(ImageError, match="60 x 40 px"):
        load_image(Image.fromarray(scene), limits=Limits(max_pixels=2000))
    with pytest.raises(ImageError, match="larger than the limit"):
        load_image(io.BytesIO(data), limits=Limits(max_bytes=20))


def test_floating_point_tiff_is_refused():
    picture = Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32))
    with pytest.raises(ImageError, match="floating-point"):
        load_image(encoded(picture, "TIFF"))


def test_wide_integers_are_refused():
    picture = Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32))
    with pytest.raises(ImageError, match="expected at most 16 bits"):
        load_image(encoded(picture, "TIFF"))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 5), np.uint8), np.zeros(4, np.uint8)],
    ids=["float", "five channels", "flat"],
)
def test_an_array_of_another_kind_is_refused(array):
    with pytest.raises(ImageError, match=r"uint8 of shape \(height, width, 3\)"):
        load_image(array)


@pytest.mark.parametrize(
    ("array", "cure"),
    [
        (np.full((4, 4, 3), 0.5), r"255 \* image"),
        (np.full((4, 4, 3), 99.0), "Scale to 0..255"),
        (np.zeros((3, 40, 40), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "one picture of a batch"),
    ],
    ids=["zero to one", "float", "channels first", "batch"],
)
def test_a_refused_array_is_told_its_own_trouble(array, cure):
    with pytest.raises(ImageError, match=cure) as caught:
        load_image(array)
    assert "\n" not in str(caught.value)


def test_arrays_that_people_hold_are_read(scene):
    grey = scene[..., :1]
    alpha = np.dstack([scene, np.full(scene.shape[:2], 255, np.uint8)])
    assert np.array_equal(load_image(grey), np.repeat(grey, 3, axis=2))
    assert np.array_equal(load_image(alpha), scene)
    alpha[..., 3] = 128
    assert load_image(alpha)[0, 0].tolist() == [127, 127, 255]


def test_bytes_of_any_kind_and_file_urls_are_read(scene, tmp_path):
    path = tmp_path / "a b é.png"
    path.write_bytes(encoded(Image.fromarray(scene), "PNG"))
    data = path.read_bytes()
    for source in (bytearray(data), memoryview(data), path.as_uri(), f"file://localhost{path.as_uri()[7:]}"):
        assert np.array_equal(load_image(source), scene)
    with pytest.raises(ImageError, match="not on this machine"):
        load_image("https://example.org/a.png")


def test_the_end_marker_of_a_jpeg_may_be_missing(rng):
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(image), "JPEG")
    result = decode(data[:-2])
    assert np.array_equal(result.image, load_image(data)) and "end marker" in result.notes[0]
    assert np.array_equal(decode(data[:-2] + bytes(9)).image, result.image)
    for missing in (4, 10, 40, 400):
        with pytest.raises(ImageError, match="damaged or cut short"):
            load_image(data[:-missing])
    with pytest.raises(ImageError, match="damaged or cut short"):
        load_image(encoded(Image.fromarray(image), "JPEG", progressive=True)[:-2])


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_where_all_is_transparent_the_colours_are_meant(scene, fmt):
    picture = Image.fromarray(scene).convert("RGBA")
    picture.putalpha(0)
    result = decode(encoded(picture, fmt))
    assert np.array_equal(result.image, scene) and "transparent" in result.notes[0]


def test_a_bitmap_of_32_bits_without_alpha_shows_its_colours(scene):
    stored = np.zeros((*scene.shape[:2], 4), np.uint8)
    stored[..., :3] = scene[::-1, :, ::-1]
    head = struct.pack("<IiiHHIIiiII", 108, 60, 40, 1, 32, 3, stored.size, 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    data = b"BM" + struct.pack("<IHHI", 122 + stored.size, 0, 0, 122) + head + stored.tobytes()
    assert np.array_equal(load_image(data), scene)


def test_avif_under_another_brand_is_avif(scene):
    data = bytearray(encoded(Image.fromarray(scene), "AVIF", quality=95))
    data[8:12] = b"mif1"
    assert np.abs(load_image(bytes(data)).astype(int) - scene).mean() < 8


def test_a_format_that_this_pillow_lacks_is_one_line(scene, monkeypatch):
    data = encoded(Image.fromarray(scene), "AVIF")
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    with pytest.raises(ImageError, match=r"is AVIF, which needs Pillow 11\.3"):
        load_image(data)


def raw_file(*, dng):
    """A TIFF whose first picture is a thumbnail, as cameras write them."""
    tags = [(254, 4, 1), (256, 4, 4), (257, 4, 4), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, 4), (279, 4, 16), (330, 4, 8)] + [(50706, 1, 1)] * dng
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "data",
    [raw_file(dng=True), raw_file(dng=False), b"II*\0\x10\0\0\0CR\2\0" + bytes(40), b"\0\0\0\x18ftypcrx " + bytes(40)],
    ids=["dng", "nef", "cr2", "cr3"],
)
def test_a_camera_raw_file_is_refused_by_that_name(data):
    with pytest.raises(ImageError, match=r"camera raw file.*Export it as JPEG or TIFF"):
        load_image(data)


def test_later_pages_are_noted(scene):
    page = Image.fromarray(scene)
    result = decode(encoded(page, "TIFF", save_all=True, append_images=[page, page]))
    assert result.notes == ("it has 3 pages, of which the first is read",)
    assert decode(encoded(page, "TIFF")).notes == ()


def test_a_jpeg_of_thousands_of_passes_is_refused_at_once(rng):
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert load_image(data).shape == (64, 64, 3)
    with pytest.raises(ImageError, match="in 2009 passes"):
        load_image(data[:last] + data[last:-2] * 2000 + b"\xff\xd9")
    with pytest.raises(ImageError, match="passes"):
        load_image(data[:last] + data[last:-2] * 20 + b"\xff\xd9", limits=Limits(max_scanned_pixels=64 * 64 * 20))


def test_a_picture_may_not_take_more_memory_than_allowed(scene):
    data = encoded(Image.fromarray(scene).convert("RGBA"), "PNG")
    assert load_image(data, limits=Limits(max_decoded_bytes=60 * 40 * 7)).shape == scene.shape
    with pytest.raises(ImageError, match="MB to read"):
        load_image(data, limits=Limits(max_decoded_bytes=60 * 40 * 7 - 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16"])
def test_a_tall_picture_is_converted_strip_by_strip_like_a_small_one(rng, mode):
    values = rng.integers(0, 256, (600, 3, 4), dtype=np.uint8)
    picture = Image.fromarray(values).convert("LA" if mode == "LA" else "RGBA")
    if mode == "I;16":
        picture = Image.fromarray(values.view(np.uint16)[..., 0])
    parts = [load_image(picture.crop((0, top, 3, top + 100))) for top in range(0, 600, 100)]
    assert np.array_equal(load_image(picture), np.concatenate(parts))


@pytest.mark.parametrize("place", ["header", "pixels"])
def test_a_ppm_of_comments_is_done_in_linear_time(place):
    import time

    comments = b"#" + b"x" * 500_000 + b"\n" + b"#\n" * 250_000
    size, pixels = b"2 1 255\n", b"1 2 3 4 5 6"
    data = b"P3\n" + (comments + size if place == "header" else size + comments) + pixels
    start = time.process_time()
    try:
        assert load_image(data).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    except ImageError as error:
        assert "does not say its size" in str(error)
    assert time.process_time() - start < 2


def test_other_sources_are_refused():
    with pytest.raises(ImageError, match="not <class 'int'>"):
        load_image(3)
    with pytest.raises(ImageError, match="binary mode"):
        load_image(io.StringIO("text"))
    with pytest.raises(ImageError, match="is empty"):
        load_image(np.zeros((0, 4, 3), np.uint8))


def test_paths_that_hold_no_picture_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name, message in [
        ("missing.jpg", "does not exist"),
        ("empty", "holds no pictures"),
        ("pipe.jpg", "pipe, socket or device"),
        ("loop.jpg", "link that leads to itself"),
        ("null\0byte", "null byte"),
    ]:
        with pytest.raises(ImageError, match=message):
            load_image(str(tmp_path / name))
    Image.new("RGB", (1, 1)).save(tmp_path / "empty" / "a.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path / "empty")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="may not be read"):
        load_image(path)


def test_nothing_is_written_on_stderr(capfd, scene, tmp_path):
    palette = Image.fromarray(scene).convert("P")
    data = encoded(palette, "PNG", transparency=bytes([128] * 256))
    load_image(data)
    tiff = bytearray(encoded(Image.fromarray(scene), "TIFF"))
    tiff[-20:] = b"\xff" * 20
    with pytest.raises(ImageError):
        load_image(bytes(tiff[:60]))
    assert capfd.readouterr().err == ""


def test_many_threads_may_decode_at_once(scene):
    data = encoded(Image.fromarray(scene), "PNG")
    good = []
    threads = [threading.Thread(target=lambda: good.append(np.array_equal(load_image(data), scene))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 8


def test_digest_is_of_pixels_and_shape(scene):
    assert digest(load_image(encoded(Image.fromarray(scene), "PNG"))) == digest(
        load_image(encoded(Image.fromarray(scene), "BMP"))
    )
    assert digest(np.zeros((2, 3, 3), np.uint8)) != digest(np.zeros((3, 2, 3), np.uint8))
    other = scene.copy()
    other[0, 0, 0] ^= 1
    assert digest(other) != digest(scene)


@pytest.fixture
def folder(tmp_path):
    for name in ["b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.webp", ".git/d.jpg", "sub/deep/e.tif"]:
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "album"


def names(paths, folder):
    return [str(Path(p).relative_to(folder)) for p in paths]


def test_a_folder_is_searched_in_order(folder):
    assert names(find_images([folder]), folder) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/e.tif"]


def test_a_pattern_is_expanded_and_nothing_comes_twice(folder):
    found = find_images([str(folder / "**" / "*"), folder / "b.jpg", folder / "notes.txt"])
    assert sorted(names(found, folder)) == ["a.PNG", "b.jpg", "notes.txt", "sub/c.webp", "sub/deep/e.tif"]


def test_a_loop_of_links_ends(folder):
    (folder / "sub" / "again").symlink_to(folder)
    (folder / "zz").symlink_to(folder / "sub")
    assert names(find_images([folder]), folder) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/e.tif"]


def test_what_is_missing_fails_alone_when_there_are_others(folder):
    assert find_images([folder / "gone.jpg", folder / "b.jpg"]) == [folder / "gone.jpg", folder / "b.jpg"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.jpg", "does not exist"), ("*.bmp", "No picture matches"), ("void", "holds no pictures")],
)
def test_nothing_at_all_is_an_error(folder, name, message):
    (folder / "void").mkdir()
    with pytest.raises(ImageError, match=message):
        find_images([folder / name])
    with pytest.raises(ImageError, match="No pictures were named"):
        find_images([])


def test_a_file_name_that_is_not_utf8_survives(tmp_path, scene):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(raw, "wb") as file:
            file.write(encoded(Image.fromarray(scene), "PNG"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (path,) = find_images([tmp_path])
    assert np.array_equal(load_image(path), scene)
    assert printable(path).endswith("caf\\xe9.png")


def test_a_printable_path_is_one_line():
    assert printable("a\nb\x1b[31m.jpg") == "a\\nb\\x1b[31m.jpg"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_what_is_saved_can_be_loaded(scene, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    save_image(path, scene, quality=95)
    assert np.abs(load_image(path).astype(int) - scene).mean() < 8
    assert list(tmp_path.iterdir()) == [path]


def test_saving_fails_in_one_line_and_leaves_nothing(scene, tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="Cannot write"):
        save_image(tmp_path / "no" / "such.png", scene)
    with pytest.raises(ImageError, match=r"written as \.jpg, \.png or \.webp"):
        encode_image(scene, suffix=".xyz")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ImageError, match="No space left"):
        save_image(tmp_path / "full.png", scene)
    assert list(tmp_path.iterdir()) == []
