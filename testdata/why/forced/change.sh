# Nothing: the second build is told to run everything.
