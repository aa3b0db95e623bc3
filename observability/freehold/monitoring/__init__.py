"""What is watched: metric names, scrape targets, rules and dashboards."""
