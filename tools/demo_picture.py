# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command on a terminal of its own and draw what it leaves on the screen as SVG.

tools/demo_picture.py docs/images/demo.svg make demo
"""

from __future__ import annotations

import os
import pty
import re
import sys
from xml.sax.saxutils import escape

LINE, WIDTH, MARGIN = 19, 8.43, 18
COLUMNS = 100
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "36": "#79c0ff"}


def record(argv: list[str]) -> tuple[str, int]:
    pieces: list[bytes] = []

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        pieces.append(data)
        return data

    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm")
    os.environ.pop("NO_COLOR", None)
    status = os.waitstatus_to_exitcode(pty.spawn(argv, read))
    return b"".join(pieces).decode("utf-8", "replace"), status


def screen(text: str) -> list[str]:
    """The lines as they stand at the end: what a later line end has wiped away is left out."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        kept = line.rsplit("\033[K", 1)[-1]
        # A tool's own path is of no interest to who looks at the picture.
        lines.append(re.sub(r"(?<= )/\S*/\.work/", ".work/", kept))
    while lines and not lines[-1]:
        lines.pop()
    return lines


def draw(lines: list[str], title: str) -> str:
    width = round(COLUMNS * WIDTH + 2 * MARGIN)
    height = (len(lines) + 2) * LINE + 2 * MARGIN
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        '<g font-family="\'DejaVu Sans Mono\',ui-monospace,Menlo,Consolas,monospace" font-size="14" fill="#d6dde5">',
    ]
    for number, line in enumerate(["\033[1;32m# \033[0m\033[1m" + title + "\033[0m", "", *lines]):
        spans, colour, bold = [], "", False
        for piece in re.split(r"(\033\[[0-9;]*m)", line):
            if piece.startswith("\033["):
                codes = piece[2:-1].split(";")
                bold = "1" in codes
                colour = next((COLOURS[code] for code in codes if code in COLOURS), "")
            elif piece:
                style = (f' fill="{colour}"' if colour else "") + (' font-weight="bold"' if bold else "")
                spans.append(f"<tspan{style}>{escape(piece)}</tspan>")
        if spans:
            y = MARGIN + LINE * (number + 1) - 5
            svg.append(f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{"".join(spans)}</text>')
    return "\n".join([*svg, "</g>", "</svg>"]) + "\n"


def main() -> int:
    target, argv = sys.argv[1], sys.argv[2:]
    text, status = record(argv)
    if status == 0:
        with open(target, "w", encoding="utf-8") as stream:
            stream.write(draw(screen(text), " ".join(argv)))
    return status


if __name__ == "__main__":
    sys.exit(main())
