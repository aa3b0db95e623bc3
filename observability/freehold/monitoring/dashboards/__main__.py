"""Write every dashboard's JSON: `python -m freehold.monitoring.dashboards`."""

from __future__ import annotations

from .build import DASHBOARDS, to_json
from .pages import dashboards


def main() -> None:
    for page in dashboards():
        (DASHBOARDS / f"{page.uid.removeprefix('freehold-')}.json").write_text(to_json(page))


if __name__ == "__main__":
    main()
