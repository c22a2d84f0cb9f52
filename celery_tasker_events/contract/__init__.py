"""What others can build on: the declared events as documents, compared with one another, and as Python types."""
