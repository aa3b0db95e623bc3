"""The plan: a pure function from a stack file and the catalog to everything downstream."""
