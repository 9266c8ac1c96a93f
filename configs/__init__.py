"""Configurations of `cfcam build`, one YAML file each; the file's stem is the name that ``--config`` takes."""
