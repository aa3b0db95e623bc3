"""The report as a real browser lays it out: nothing cut off, nothing over one another, by day and night."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from freehold.load.analysis import Analysis
from freehold.load.record import Recording
from freehold.load.report.page import page

from .test_report import _series, analysis, context, recording

__all__ = ["analysis", "context", "recording"]  # fixtures

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# What a reader's eye does: sees whether texts of a plot lie on one another, and what is too faint.
LOOK = """<pre id="seen"></pre><script>
const box = (e) => e.getBoundingClientRect();
const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const svgs = [...document.querySelectorAll("svg")];
const overlaps = svgs.flatMap((svg) => {
  const texts = [...svg.querySelectorAll("text")];
  return texts.flatMap((a, i) => texts.slice(i + 1).filter((b) => over(box(a), box(b)))
    .map((b) => a.textContent + " / " + b.textContent));
});
const light = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const style = getComputedStyle(document.body);
const [a, b] = [light(style.color), light(style.backgroundColor)].sort();
document.getElementById("seen").textContent = JSON.stringify({
  width: document.documentElement.scrollWidth, window: innerWidth, svgs: svgs.length,
  small: svgs.filter((s) => box(s).width < 250 || box(s).height < 100).length,
  unmarked: svgs.filter((s) => s.querySelectorAll("text").length < 6).length,
  overlaps, contrast: (b + 0.05) / (a + 0.05), dark: b < 0.9 && a < b && light(style.backgroundColor) < 0.2,
});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1240, False), (1240, True), (500, False)])
def test_the_page_can_be_read(
    analysis: Analysis, recording: Recording, tmp_path: Path, width: int, dark: bool
) -> None:
    file = tmp_path / "report.html"
    text = page(analysis, recording.requests, [_series()])
    file.write_text(text.replace("</body>", LOOK + "</body>"), encoding="utf-8")
    seen = _look(file, width, dark, tmp_path / "profile")
    assert seen["width"] <= seen["window"], "the page does not scroll sideways"
    assert seen["svgs"] == 13 and not seen["small"]
    assert not seen["unmarked"], "every plot has numbers on both axes and their units"
    assert not seen["overlaps"]
    assert seen["dark"] == dark
    assert seen["contrast"] > 7, "WCAG's AAA"


def _look(file: Path, width: int, dark: bool, profile: Path) -> dict[str, Any]:
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", f"--user-data-dir={profile}"]
    command += [f"--window-size={width},2000", "--dump-dom"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [*command, file.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stdout[-500:]
    return json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
