"""The only place where a config becomes objects: models, data, runs."""
