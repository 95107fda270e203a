"""Plain HTTP: the admin server with its status page, and the client."""
