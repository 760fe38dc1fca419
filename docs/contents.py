"""Write the table of contents of decisions.md: each decision with its summary, the bold line below its heading.

python docs/contents.py            # rewrite what stands between the markers
python docs/contents.py --check    # status 1 where the contents are out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "decisions.md"
BEGIN, END = "<!-- contents: begin -->", "<!-- contents: end -->"
HEADING = re.compile(r"^(##|###) (.+)\n(?:\n\*\*(.+?)\*\*\n)?", re.MULTILINE)


def anchor(heading: str) -> str:
    """Return the name that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def contents(page: str) -> str:
    """List the sections and decisions of a page.

    Raises:
        ValueError: A decision has no bold line of summary below its heading.
    """
    lines = []
    for level, heading, summary in HEADING.findall(page.split(END)[-1]):
        if level == "##":
            lines += ["", f"[{heading}](#{anchor(heading)})", ""]
        elif not summary:
            raise ValueError(
                f"'### {heading}' needs a summary: one bold line below the heading, and a blank one between."
            )
        else:
            lines.append(f"- [{heading}](#{anchor(heading)}): {summary}")
    return "\n".join(lines)


def with_contents(page: str) -> str:
    """Return a page with its contents between the markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{contents(page)}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Rewrite the page, or say that it is out of date."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_contents(page)
    if wanted == page:
        return
    if "--check" in sys.argv[1:]:
        sys.exit("The contents of docs/decisions.md are out of date. Run: python docs/contents.py")
    PAGE.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
