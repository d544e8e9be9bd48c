"""One file per experiment; each header names paper, expected result, cost and the exact command."""
