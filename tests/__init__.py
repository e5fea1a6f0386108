"""The suites; a package so that one suite may import another's oracle."""
