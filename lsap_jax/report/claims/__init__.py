"""The chart of a claim: what each weight of a term does."""
