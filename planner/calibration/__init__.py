"""Real training on the hardware that is there: measured steps, and the jobs that a calibration is fitted to.

Only a process of `app.jobs` imports this package: it loads torch and transformers.
"""
