"""The process that runs one job: confined first, then the libraries, then the work; it knows no database.

`python -m app.jobs.runner SPEC_FILE OUT_DIRECTORY` exits with 0 once `OUT_DIRECTORY/result.json` is there.
"""
