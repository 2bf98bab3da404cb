"""`python -m harness.audit`: run cells again in other circumstances, and say by how much their numbers differ."""
