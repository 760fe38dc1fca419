from click.testing import CliRunner

from gallery.fake_analyzer import point
from mien.cli.demo import demo
from mien.demo import Demo


def test_the_command_makes_the_folder_and_says_where_the_report_is(tmp_path, monkeypatch):
    asked = []

    def run(out, *, fmr):
        asked.append((out, fmr))
        return Demo(out / "report.html", (), point(fmr, 0.6), 12.3, 4.5)

    monkeypatch.setattr("mien.demo.run", run)
    result = CliRunner().invoke(demo, ["--out", str(tmp_path / "new"), "--fmr", "1e-2"], catch_exceptions=False)
    assert result.exit_code == 0 and (tmp_path / "new").is_dir()
    assert asked == [(tmp_path / "new", 1e-2)]
    assert "report.html" in result.stdout and "FMR 0.01" in result.stdout and "4.5 s" in result.stdout
