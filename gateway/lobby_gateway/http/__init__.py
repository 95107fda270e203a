"""HTTP beside the WebSockets: the admin server and the client."""
