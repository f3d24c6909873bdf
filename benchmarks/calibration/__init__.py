"""Step times that a calibration predicts of models that it did not run, beside what they take."""
