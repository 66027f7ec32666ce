"""From a training set to a champion: fitting, measuring, judging, packaging, scoring. No HTTP, no Dagster."""
