"""The files of a finished run: report.json, requests.csv, report.html."""

from .write import read_report, write_report

__all__ = ["read_report", "write_report"]
