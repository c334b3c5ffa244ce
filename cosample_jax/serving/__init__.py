"""Models of a run behind HTTP, in the protocol of the OpenAI API."""
