"""One file per experiment; each header gives the paper, the expected result, the cost and the exact command."""
