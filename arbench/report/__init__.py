"""The report: one self-contained HTML page from the folders of runs. Imports no torch and no MLflow."""
