"""HTTP beside the WebSockets: the admin server with its status page, and the client."""
