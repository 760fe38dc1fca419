import io

from mien.training.reporter import PictureProgress, Reporter, format_duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_a_report_is_a_line():
    stream = io.StringIO()

    with Reporter(1000, stream=stream) as reporter:
        reporter.advance(500)
        reporter.report(500, train_loss=1.23456, valid_accuracy=0.5)
        reporter.advance(1000)
        reporter.report(1000, train_loss=1.0)

    first, last = stream.getvalue().splitlines()
    assert first.startswith("500 of 1,000 images, ") and " images/s, " in first and " left: " in first
    assert first.endswith(": train loss 1.235  valid accuracy 0.5")
    assert "left" not in last


def test_a_terminal_shows_speed_and_the_newest_numbers():
    stream = Terminal()

    with Reporter(1000, stream=stream) as reporter:
        reporter.advance(500)
        reporter.report(500, train_loss=1.25)

    assert "images/s" in stream.getvalue() and "train loss 1.25" in stream.getvalue()


def test_a_quiet_reporter_says_nothing():
    stream = Terminal()

    with Reporter(10, quiet=True, stream=stream) as reporter:
        reporter.advance(5)
        reporter.report(5, loss=1.0)

    assert stream.getvalue() == ""


def test_speed_counts_this_process_only():
    reporter = Reporter(10_000_000, done=9_000_000, quiet=True)
    assert reporter.images_per_second == 0.0

    reporter.advance(9_000_001)
    assert reporter.images_per_second > 0
    reporter.advance(8_000_000)
    assert reporter.images_per_second == 0.0


def test_durations_are_told_as_people_tell_them():
    assert [format_duration(value) for value in (5, 89, 300, 7500)] == ["5 s", "89 s", "5 min", "2 h 5 min"]


def test_only_many_pictures_are_worth_a_line_and_each_set_begins_anew(capsys):
    with PictureProgress(least=5000) as progress:
        for total in (10, 5000, 5000):
            for done in range(1, total + 1):
                progress(done, total)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("5,000 of 5,000 images") for line in lines)
