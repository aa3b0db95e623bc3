"""Dashboards as code; the JSON beside the rules is what Grafana is given."""
