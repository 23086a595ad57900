"""The learner's way through the package: stations, grading, hints, drills and the workspace they live in."""
